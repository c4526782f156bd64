"""The table of processes: everything that the distributed run consists of, whoever starts it.

docker-compose.yml, the launcher for one machine and Prometheus follow it; tests hold them to it.
"""

from dataclasses import dataclass, field
from typing import Literal

from deploy.names import SERVICE_NAMES

API_PORT = 8000
OPS_PORT = 9000
MAX_CONNECTIONS = 300  # of PostgreSQL: two pools of 20 for each service, and room for workers and a second replica
EVERYWHERE = "0.0.0.0"  # noqa: S104  # inside a container, on networks that only our processes are on
STOP_GRACE_S = 30  # for requests and messages at hand
SETTINGS_FILE = "hallpass.env"  # what an operator sets for every process, none of it secret; may be missing

PortOption = Literal["--port", "--ops-port"]


@dataclass(frozen=True)
class Process:
    """One of our own processes: `python -m deploy <words> --host ... <port option> ...`.

    It is healthy when `health` answers 200 at its port, and has no port where it runs `once`, to its end. It starts when
    those `after` which it comes are healthy, or have ended well. `secrets` is its file of environment variables.
    """

    name: str
    words: tuple[str, ...]
    after: tuple[str, ...]
    secrets: str | None
    port_option: PortOption | None = "--ops-port"
    port: int | None = OPS_PORT
    health: str = "/readyz"
    has_metrics: bool = True
    can_be_many: bool = True

    @property
    def once(self) -> bool:
        return self.port is None

    def command(self, host: str = EVERYWHERE, port: int | None = None, more: tuple[str, ...] = ()) -> list[str]:
        """The words after `python -m deploy`; by default those of a container."""
        where = [] if self.port_option is None else ["--host", host, self.port_option, str(port or self.port)]
        return [*self.words, *where, *more]


@dataclass(frozen=True)
class Server:
    """A server program of others. `check` is the container's own way to tell that it answers."""

    name: str
    image: str
    port: int
    check: str
    after: tuple[str, ...] = ()
    secrets: str | None = None
    command: list[str] = field(default_factory=list)
    runs_natively: bool = True


def _api(name: str) -> Process:
    return Process(
        name,
        ("api", name),
        after=("migrate", "redis", "rabbitmq"),
        secrets=f"{name}.env",
        port_option="--port",
        port=API_PORT,
    )


def _events(name: str) -> Process:
    return Process(f"{name}-events", ("events", name), after=("migrate", "rabbitmq"), secrets=f"{name}.env")


PROCESSES: tuple[Process, ...] = (
    Process(
        "migrate",
        ("migrate",),
        after=("postgres",),
        secrets="migrate.env",
        port_option=None,
        port=None,
        health="",
        has_metrics=False,
        can_be_many=False,
    ),
    *(_api(name) for name in SERVICE_NAMES),
    *(_events(name) for name in SERVICE_NAMES),
    Process("notify-loops", ("loops", "notify"), after=("migrate",), secrets="notify.env"),
    Process("worker", ("worker",), after=("migrate", "redis"), secrets="worker.env"),
    Process(
        "export-worker",
        ("worker", "--queue", "exports", "--pool", "threads", "--concurrency", "1"),
        after=("migrate", "redis"),
        secrets="admin.env",  # an export reads the other services as its owner would, over HTTP
    ),
    Process("beat", ("beat",), after=("redis",), secrets="beat.env"),
    Process(
        "front",
        ("front",),
        after=SERVICE_NAMES,
        secrets=None,
        port_option="--port",
        port=API_PORT,
        health="/",
        has_metrics=False,
    ),
)

# Their passwords come as variables, and reach the programs neither in a command line nor in an image.
_REDIS = (
    'umask 077; printf "appendonly yes\\nrequirepass %s\\n" "$$REDIS_PASSWORD" > /tmp/redis.conf; '
    "exec redis-server /tmp/redis.conf"
)
_NGINX = ["nginx", "-c", "/tmp/nginx.conf", "-g", "daemon off;"]  # noqa: S108  # the container's own

SERVERS: tuple[Server, ...] = (
    Server(
        "postgres",
        image="postgres:18.1",
        port=5432,
        check="pg_isready -q -h 127.0.0.1 -U postgres",  # over TCP: the server that prepares the cluster has none
        secrets="postgres.env",
        command=["postgres", "-c", f"max_connections={MAX_CONNECTIONS}"],
    ),
    Server(
        "redis",
        image="redis:8.2.3",
        port=6379,
        check='REDISCLI_AUTH="$$REDIS_PASSWORD" redis-cli ping | grep -q PONG',
        secrets="redis.env",
        command=["sh", "-c", _REDIS],
    ),
    Server(
        "rabbitmq",
        image="rabbitmq:4.2.1",
        port=5672,
        check="rabbitmq-diagnostics -q check_port_connectivity",
        secrets="rabbitmq.env",
    ),
    Server(
        "gateway",
        image="nginx:1.28.0-alpine",
        port=8080,
        check="wget -q -O /dev/null http://127.0.0.1:8081/livez",
        after=("front", *SERVICE_NAMES),
        command=_NGINX,
    ),
    Server(
        "prometheus",
        image="prom/prometheus:v3.7.3",
        port=9090,
        check="wget -q -O /dev/null http://127.0.0.1:9090/-/healthy",
        command=["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"],
        runs_natively=False,
    ),
    Server(
        "grafana",
        image="grafana/grafana:12.2.1",
        port=3000,
        check="wget -q -O /dev/null http://127.0.0.1:3000/api/health",
        after=("prometheus",),
        secrets="grafana.env",
        runs_natively=False,
    ),
)

PARTS: tuple[Process | Server, ...] = (*SERVERS, *PROCESSES)
BY_NAME = {part.name: part for part in PARTS}
