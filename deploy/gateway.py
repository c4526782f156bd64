"""The embedded gateway: one address, a table from prefix to app. The distributed run has nginx with the same table."""

from starlette.types import ASGIApp, Receive, Scope, Send

API = "/api/"


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
        name = path.removeprefix(API).partition("/")[0] if path.startswith(API) else ""
        await self._apps.get(name, self._front)(scope, receive, send)
