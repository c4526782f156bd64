"""The front of an installation: a page that says what runs, API documentation that needs no internet, and /healthz."""

import base64
import hashlib
import importlib.util
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from deploy.health import Health
from deploy.names import Refusal
from libs.common.edge import Edge
from libs.common.errors import HallpassError, Language, NotFound
from libs.common.problems import MethodNotAllowed, language_of, problem

MAX_BODY_BYTES = 16_384
HERE = Path(__file__).parent / "front_assets"
ASSETS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "favicon.png": "image/png"}
OWN_ASSETS = {"docs.js": "text/javascript"}

# What each service is for, in the words of the page.
SERVICES: dict[str, dict[Language, tuple[str, str]]] = {
    "catalog": {
        "zh": ("预约目录", "服务厅、预约项目、日期与时段"),
        "en": ("catalog", "halls, items, days and slots"),
    },
    "booking": {
        "zh": ("预约", "登录、预约、改期、取消与签到"),
        "en": ("booking", "sign-in, joins, moves, cancellations and check-in"),
    },
    "notify": {
        "zh": ("通知", "消息通知、公告与统计"),
        "en": ("notify", "notices, announcements and statistics"),
    },
    "admin": {
        "zh": ("管理", "管理员账号、权限与操作记录"),
        "en": ("admin", "staff accounts, roles and the audit trail"),
    },
}

TEXTS: dict[Language, dict[str, str]] = {
    "zh": {
        "lang": "zh-CN",
        "title": "厅约 Hallpass",
        "lead": "本系统提供服务厅时段预约，以下服务正在运行。",
        "docs": "接口文档",
        "openapi": "OpenAPI 描述",
        "health": "运行状态",
        "health_link": "查看各服务是否正常（/healthz）",
        "other": "English",
        "other_code": "en",
        "docs_title": "接口文档",
        "back": "返回首页",
    },
    "en": {
        "lang": "en",
        "title": "Hallpass 厅约",
        "lead": "This installation lets people book time slots at service halls. These services run:",
        "docs": "API documentation",
        "openapi": "OpenAPI document",
        "health": "Health",
        "health_link": "See whether every service is well (/healthz)",
        "other": "中文",
        "other_code": "zh",
        "docs_title": "API documentation",
        "back": "Back to the first page",
    },
}

STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 42rem; padding: 1.25rem; font: 1.0625rem/1.6 system-ui, "PingFang SC",
  "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; color: #1c1c1c; background: #fff; }
header { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: baseline; justify-content: space-between; }
h1 { font-size: 1.6rem; margin: 0; }
ul { list-style: none; padding: 0; }
li { border: 1px solid #767676; border-radius: .5rem; padding: .75rem 1rem; margin: .75rem 0; }
h2 { font-size: 1.15rem; margin: 0; }
p { margin: .35rem 0; }
a { color: #0b57a4; display: inline-block; padding: .35rem 0; margin-right: 1.25rem; }
a:focus-visible { outline: 3px solid currentColor; outline-offset: 2px; }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #161616; } a { color: #8ec3ff; } }
"""


def front(health: Health, *, lifespan: Any = None) -> ASGIApp:
    """Return the app; `lifespan` is what starts and ends with the process."""
    return Edge(
        Starlette(
            routes=[
                Route("/", _home),
                Route("/healthz", _healthz(health)),
                Route("/docs/{service:str}", _docs),
                Route("/docs/assets/{name:str}", _asset),
            ],
            exception_handlers={HTTPException: _on_http},
            lifespan=lifespan,
        ),
        service="front",
        max_body_bytes=MAX_BODY_BYTES,
    )


def _home(request: Request) -> Response:
    language = _language(request)
    texts = TEXTS[language]
    services = "\n".join(_service(name, language) for name in SERVICES)
    page = f"""<!DOCTYPE html>
<html lang="{texts["lang"]}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{texts["title"]}</title>
<link rel="icon" href="/docs/assets/favicon.png">
<style>{STYLE}</style>
</head>
<body>
<header><h1>{texts["title"]}</h1>
<a href="/?lang={texts["other_code"]}" lang="{TEXTS[_other(language)]["lang"]}">{texts["other"]}</a></header>
<main>
<p>{texts["lead"]}</p>
<ul>
{services}
<li><h2>{texts["health"]}</h2><a href="/healthz">{texts["health_link"]}</a></li>
</ul>
</main>
</body>
</html>
"""
    policy = f"default-src 'none'; style-src 'sha256-{_sha256(STYLE)}'; img-src 'self'"
    return _page(page, language, policy)


def _service(name: str, language: Language) -> str:
    title, about = SERVICES[name][language]
    texts = TEXTS[language]
    return f"""<li><h2>{escape(title)}</h2><p>{escape(about)}</p>
<a href="/docs/{name}">{texts["docs"]}</a><a href="/api/{name}/openapi.json">{texts["openapi"]}</a></li>"""


def _docs(request: Request) -> Response:
    name = request.path_params["service"]
    if name not in SERVICES:
        raise HTTPException(404)
    language = _language(request)
    texts = TEXTS[language]
    title = f"{SERVICES[name][language][0]} · {texts['docs_title']}"
    page = f"""<!DOCTYPE html>
<html lang="{texts["lang"]}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="/docs/assets/favicon.png">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<p><a href="/">{texts["back"]}</a></p>
<div id="docs" data-openapi="/api/{name}/openapi.json"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/docs.js"></script>
</body>
</html>
"""
    # Swagger UI sets styles and shows small images from within; nothing may come from or go to another host.
    policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
    return _page(page, language, policy)


def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name in OWN_ASSETS:
        path, kind = HERE / name, OWN_ASSETS[name]
    elif name in ASSETS:
        path, kind = _swagger_ui() / name, ASSETS[name]
    else:
        raise HTTPException(404)
    return FileResponse(
        path, media_type=kind, headers={"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}
    )


def _healthz(health: Health) -> Any:
    async def healthz(_: Request) -> Response:
        found = await health.look()
        status = 503 if found["status"] == "down" else 200
        return JSONResponse(found, status, headers={"Cache-Control": "no-store"})

    return healthz


@cache
def _swagger_ui() -> Path:
    """Find the assets inside the package without importing it, which would build an app of its own."""
    package = importlib.util.find_spec("fastapi_offline")
    for place in (package and package.submodule_search_locations) or ():
        if (folder := Path(place) / "static").is_dir():
            return folder
    raise Refusal("The assets of the API documentation are missing: install the packages of requirements.lock.")


def _page(html: str, language: Language, policy: str) -> HTMLResponse:
    return HTMLResponse(
        html,
        headers={
            "Content-Language": TEXTS[language]["lang"],
            "Content-Security-Policy": f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "Vary": "Accept-Language",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        },
    )


def _language(request: Request) -> Language:
    chosen = request.query_params.get("lang")
    if chosen == "en":
        return "en"
    return "zh" if chosen == "zh" else language_of(request.headers.get("accept-language", ""))


def _other(language: Language) -> Literal["zh", "en"]:
    return "en" if language == "zh" else "zh"


def _on_http(request: Request, error: Exception) -> Response:
    refusal: HallpassError = MethodNotAllowed() if getattr(error, "status_code", 404) == 405 else NotFound()
    return problem(refusal, request.headers.get("accept-language", ""), service="front").response()


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
