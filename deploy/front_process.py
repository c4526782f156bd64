"""The front as a process of its own, behind nginx."""

import os

from deploy.front import front
from deploy.health import Health, over_http
from deploy.names import SERVICE_NAMES, Refusal
from deploy.serve import listen, serve
from libs.common import logs


def run(*, host: str, port: int, upstreams: list[str]) -> int:
    """Serve until told to stop."""
    urls = _urls(upstreams)
    logs.configure("front", os.environ.get("HALLPASS_LOG_LEVEL", "INFO"))
    health = Health({name: over_http(url) for name, url in urls.items()})
    serve(front(health), listen(host, port), trusted_proxies=None)
    return 0


def _urls(upstreams: list[str]) -> dict[str, str]:
    urls = {name: f"http://{name}:8000" for name in SERVICE_NAMES}
    for upstream in upstreams:
        name, _, url = upstream.partition("=")
        if name not in urls or not url.startswith("http://"):
            raise Refusal(f"--upstream {upstream} does not read like {SERVICE_NAMES[0]}=http://host:port")
        urls[name] = url
    return urls
