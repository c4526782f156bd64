"""The embedded gateway: one address, a table from prefix to app. nginx_conf has the same table."""

from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.names import PREFIXES


class Gateway:
    """Routes `/api/<service>/...` to the service's app and everything else to the front.

    Health and metrics of a service lie outside its prefix, so they can't be reached from here.
    """

    def __init__(self, apps: dict[str, ASGIApp], front: ASGIApp) -> None:
        self._apps = apps
        self._front = front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._front(scope, receive, send)
            return
        path: str = scope["path"]
        prefix = "/".join(path.split("/", 3)[:3])
        await self._apps.get(PREFIXES.get(prefix, ""), self._front)(scope, receive, send)
