"""nginx as the gateway: its whole configuration, from the table of prefixes that the embedded gateway has too.

`python -m deploy.nginx_conf` writes deploy/nginx/ anew, which the container reads; a test holds the files to this.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from deploy.names import PREFIXES
from deploy.table import BY_NAME

FOLDER = Path(__file__).parent / "nginx"
UPLOADS = {"/api/booking/uploads": "booking", "/api/booking/staff/uploads": "booking"}
LARGEST_UPLOAD_MB = 64  # the services have limits of their own, which say so better
CONNECT_TIMEOUT_S = 2
READ_TIMEOUT_S = 30


@dataclass(frozen=True)
class Limits:
    """Texts, because in a container they are variables of the environment. The rate is one address's."""

    requests_per_second: str = "200"
    burst: str = "1000"
    max_body_bytes: str = "1048576"  # as the services' own


@dataclass(frozen=True)
class Tls:
    """Where certificate chain and private key lie, as PEM."""

    certificate: str
    key: str


@dataclass(frozen=True)
class Site:
    """What differs between a container and this machine. `upstreams` names the servers behind `front` and each service."""

    listen: str
    upstreams: dict[str, list[str]]
    access_log: str
    limits: Limits = Limits()
    tls: Tls | None = None
    process: str = ""  # directives that the launcher on this machine gives itself
    names: str = ""  # how names of servers are looked up while it runs
    own_health: str = ""  # a port for whoever asks after nginx itself
    include: str = ""


@dataclass(frozen=True)
class Problem:
    """An answer that nginx gives itself, as the services give theirs."""

    status: int
    code: str
    en: str
    zh: str
    params: str = "{}"
    retry: bool = False


_BUSY = ("unavailable", "The service is busy or restarting. Try again in a moment.", "系统繁忙，请稍后再试")


def problems(limits: Limits) -> tuple[Problem, ...]:
    most = limits.max_body_bytes
    return (
        Problem(400, "bad_request", "This is no request that can be understood.", "无法识别的请求"),
        Problem(404, "not_found", "There is nothing here under this address.", "没有找到相关内容"),
        Problem(405, "method_not_allowed", "This address does not take this method.", "不支持的请求方法"),
        Problem(
            413,
            "too_large",
            f"The body is larger than {most} bytes.",
            f"提交的内容过大，最多 {most} 字节",
            params=f'{{"max_bytes":{most}}}',
        ),
        Problem(414, "too_long", "The address or a header is too long.", "请求地址或请求头过长"),
        Problem(
            429,
            "too_many_requests",
            "Too many requests. Try again in 1 s.",
            "操作过于频繁，请1秒后再试",
            params='{"retry_after_s":1}',
            retry=True,
        ),
        Problem(
            500,
            "internal",
            "Something broke on our side. Quote request $hallpass_id.",
            "系统出错，请提供编号 $hallpass_id",
        ),
        Problem(502, *_BUSY, retry=True),
        Problem(503, *_BUSY, retry=True),
        Problem(504, *_BUSY, retry=True),
    )


# 494 is nginx's own number for headers that are too large, 497 for plain HTTP on a port of TLS.
ALSO = {400: (497,), 414: (494,)}


def render(site: Site) -> str:
    """Return the complete configuration."""
    blocks = [
        _outside(site),
        "http {",
        _indented(_http(site)),
        *(_indented(_upstream(name, servers, site)) for name, servers in site.upstreams.items()),
        _indented(_server(site)),
        *([_indented(site.own_health)] if site.own_health else []),
        "}",
    ]
    return "\n".join(blocks) + "\n"


def tls(listen: str, chosen: Tls) -> str:
    """The directives of a server that speak TLS."""
    return f"""listen {listen} ssl;
ssl_certificate {chosen.certificate};
ssl_certificate_key {chosen.key};
ssl_protocols TLSv1.2 TLSv1.3;
ssl_session_cache shared:tls:10m;
ssl_session_tickets off;"""


def _outside(site: Site) -> str:
    # At "error" nginx logs whole request lines, query strings and all; the access log tells the same without them.
    return f"""# Written by `python -m deploy.nginx_conf`; change that, not this.
{site.process}worker_processes auto;
worker_rlimit_nofile 16384;
error_log stderr crit;
events {{
    worker_connections 8192;
}}"""


def _http(site: Site) -> str:
    limits = site.limits
    sentences = "\n".join(_sentences(problem) for problem in problems(limits))
    return f"""default_type application/octet-stream;
server_tokens off;
charset utf-8;
{site.names}
# An id that a caller gives is passed on when it is short and harmless, as libs.common.context has it.
map $http_x_request_id $hallpass_id {{
    default $request_id;
    "~^[A-Za-z0-9._-]{{8,64}}$" $http_x_request_id;
}}

# The services weigh the whole header; what nginx says itself goes by the language named first.
map $http_accept_language $hallpass_language {{
    default zh-CN;
    "~*^en" en;
}}
{sentences}

map $request_uri $hallpass_path {{
    default "";
    "~^(?<path_alone>[^?]*)" $path_alone;
}}

log_format hallpass escape=json '{{"time":"$time_iso8601","process":"gateway","request_id":"$hallpass_id",'
    '"address":"$remote_addr","method":"$request_method","path":"$hallpass_path","status":$status,'
    '"bytes":$body_bytes_sent,"seconds":$request_time,"upstream":"$upstream_addr",'
    '"upstream_status":"$upstream_status","upstream_seconds":"$upstream_response_time","agent":"$http_user_agent"}}';
access_log {site.access_log} hallpass;

limit_req_zone $binary_remote_addr zone=addresses:20m rate={limits.requests_per_second}r/s;
limit_req_status 429;

client_max_body_size {limits.max_body_bytes};
client_header_timeout 10s;
client_body_timeout 15s;
send_timeout 15s;
keepalive_timeout 65s;

gzip on;
gzip_vary on;
gzip_proxied any;
gzip_min_length 1024;
gzip_types application/json application/problem+json text/css text/javascript text/plain text/calendar image/svg+xml;

proxy_http_version 1.1;
proxy_set_header Connection "";
proxy_set_header Host $http_host;
proxy_set_header X-Request-ID $hallpass_id;
# In place of what the caller claims, not after it: the services believe these from us alone.
proxy_set_header X-Forwarded-For $remote_addr;
proxy_set_header X-Forwarded-Proto $scheme;
proxy_set_header X-Forwarded-Host "";
proxy_set_header Forwarded "";
proxy_set_header X-Real-IP "";
proxy_hide_header X-Request-ID;
proxy_hide_header X-Content-Type-Options;
proxy_hide_header Referrer-Policy;
proxy_connect_timeout {CONNECT_TIMEOUT_S}s;
proxy_read_timeout {READ_TIMEOUT_S}s;
proxy_send_timeout {READ_TIMEOUT_S}s;"""


def _sentences(problem: Problem) -> str:
    return f"""map $hallpass_language $hallpass_said_{problem.status} {{
    default "{problem.zh}";
    en "{problem.en}";
}}"""


def _upstream(name: str, servers: list[str], site: Site) -> str:
    resolve = " resolve" if site.names else ""
    zone = f"    zone {name} 64k;\n" if site.names else ""
    lines = "\n".join(f"    server {server}{resolve} max_fails=1 fail_timeout=1s;" for server in servers)
    # Shorter than the 5 s after which uvicorn closes a silent connection: else a request may meet a closing one.
    return f"upstream {name} {{\n{zone}{lines}\n    keepalive 64;\n    keepalive_timeout 4s;\n}}"


def _server(site: Site) -> str:
    listen = tls(site.listen, site.tls) if site.tls else f"listen {site.listen};"
    # A plain location that ends with a slash would answer the bare prefix with a redirect.
    services = "\n\n".join(
        f"location ~ ^{prefix}(/|$) {{\n{_indented(_proxy(name))}\n}}" for prefix, name in PREFIXES.items()
    )
    uploads = "\n\n".join(
        f"location = {path} {{\n    client_max_body_size {LARGEST_UPLOAD_MB}m;\n{_indented(_proxy(name))}\n}}"
        for path, name in UPLOADS.items()
    )
    errors = "\n".join(_error(problem) for problem in problems(site.limits))
    inside = f"""{listen}
server_name _;
{f"include {site.include};" if site.include else ""}
limit_req zone=addresses burst={site.limits.burst} nodelay;

{services}

{uploads}

# For operators alone, at the processes' own ports.
location ~ ^/(livez|readyz|metrics)$ {{
    return 404;
}}

location / {{
{_indented(_proxy("front"))}
}}

{errors}"""
    return f"server {{\n{_indented(inside)}\n}}"


def _proxy(name: str) -> str:
    policy = (
        ""
        if name == "front"
        else "\nadd_header Content-Security-Policy \"default-src 'none'; frame-ancestors 'none'\";"
    )
    return f"{_headers()}{policy}\nproxy_pass http://{name};"


def _headers() -> str:
    return "\n".join(
        [
            "add_header X-Request-ID $hallpass_id always;",
            "add_header X-Content-Type-Options nosniff always;",
            "add_header Referrer-Policy no-referrer always;",
        ]
    )


def _error(problem: Problem) -> str:
    path = f"/_problem/{problem.status}"
    body = json.dumps(
        {
            "type": f"urn:hallpass:problem:{problem.code}",
            "title": problem.code.replace("_", " "),
            "status": problem.status,
            "detail": f"$hallpass_said_{problem.status}",
            "code": problem.code,
            "params": "PARAMS",
            "request_id": "$hallpass_id",
        },
        separators=(",", ":"),
    ).replace('"PARAMS"', problem.params)
    retry = "add_header Retry-After 1 always;\n" if problem.retry else ""
    inside = f"""internal;
default_type application/problem+json;
{_headers()}
add_header Content-Language $hallpass_language always;
{retry}return {problem.status} '{body}';"""
    statuses = " ".join(str(status) for status in (problem.status, *ALSO.get(problem.status, ())))
    # By an address and not by a name: a request that could not be read has none to start a named location from.
    return f"error_page {statuses} {path};\nlocation = {path} {{\n{_indented(inside)}\n}}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())


# --- the container ----------------------------------------------------------------------------------------------------

LISTEN_PLAIN = "8080"
LISTEN_TLS = "8443"
TLS_FILES = Tls("/etc/hallpass/tls/certificate.pem", "/etc/hallpass/tls/key.pem")


def container_site() -> Site:
    """As the image of nginx reads it: variables are filled in by its own start, containers are found by Docker's names."""
    temporary = "\n".join(
        f"{name}_temp_path /tmp/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    names = [*PREFIXES.values(), "front"]
    return Site(
        listen=LISTEN_PLAIN,
        upstreams={name: [f"{name}:{BY_NAME[name].port}"] for name in names},
        access_log="/dev/stdout",
        limits=Limits(
            "${HALLPASS_GATEWAY_REQUESTS_PER_SECOND}", "${HALLPASS_GATEWAY_BURST}", "${HALLPASS_MAX_BODY_BYTES}"
        ),
        process="pid /tmp/nginx.pid;\n",
        # Asked anew every few seconds, so that replicas come and go, and restarted ones may have another address.
        names=f"{temporary}\nresolver 127.0.0.11 valid=5s ipv6=off;\n",
        own_health="server {\n    listen 127.0.0.1:8081;\n    access_log off;\n    location = /livez {\n        return 200;\n    }\n}",
        include="/etc/hallpass/server.d/*.conf",
    )


def container_files() -> dict[str, str]:
    """What deploy/nginx holds, by name."""
    redirect = "if ($scheme = http) {\n    return 308 https://$host$request_uri;\n}"
    secure = "# Mounted by docker-compose.tls.yml.\n"
    hsts = "# Browsers keep to HTTPS once they have seen it only where this is wanted; it can't be taken back for a year:\n"
    hsts += "# add_header Strict-Transport-Security max-age=31536000 always;\n"
    return {
        "nginx.conf.template": render(container_site()),
        "tls.conf": f"{secure}{tls(LISTEN_TLS, TLS_FILES)}\nhttp2 on;\n{redirect}\n{hsts}",
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in container_files().items():
        (FOLDER / name).write_text(text)
    print(f"Written to {FOLDER}: {', '.join(container_files())}.")


if __name__ == "__main__":
    main()
