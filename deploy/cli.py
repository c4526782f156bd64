"""The commands of `python -m deploy`. Each loads only the code that it needs."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy import env_files
from deploy.names import SERVICE_NAMES, Refusal
from deploy.parent import end_with_parent
from deploy.servers.process import ServerError

REFUSED = 2
FAILED = 1

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry a command out and return its exit code; what is wrong with the environment is said in one sentence."""
    chosen = _parser().parse_args(arguments)
    command: Command = chosen.command
    end_with_parent()
    try:
        if chosen.env_file is not None:
            os.environ.update(env_files.read(chosen.env_file))
        return command(chosen)
    except (Refusal, ServerError) as error:
        print(error, file=sys.stderr)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("deploy", "libs", "services"):
            raise
        print(
            f"The package {error.name} is missing: `make run` installs what requirements.lock names.", file=sys.stderr
        )
    except KeyboardInterrupt:
        return 130
    return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy", description="Hallpass: start and tend its processes.")
    parser.add_argument("--env-file", type=Path, help="a file of settings, for example secrets/worker.env")
    commands = parser.add_subparsers(metavar="command", required=True)

    def add(name: str, about: str, command: Command) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(command=command)
        return added

    add(
        "run",
        "run everything on this machine, with its own servers (HALLPASS_PORT, HALLPASS_HOST, HALLPASS_DATA)",
        _run,
    )

    migrate = add("migrate", "make database, logins and schemas, migrate them, make the first admin", _migrate)
    migrate.add_argument("--password-file", type=Path, help="where to keep the first admin's password, too")

    api = add("api", "serve one service's API", _api)
    api.add_argument("service", choices=SERVICE_NAMES)
    api.add_argument("--host", default="127.0.0.1")
    api.add_argument("--port", type=int, default=8000)

    events = add("events", "relay one service's events to RabbitMQ and consume those it hears", _events)
    events.add_argument("service", choices=SERVICE_NAMES)
    _add_ops(events)

    loops = add("loops", "carry a service's notices to their providers", _loops)
    loops.add_argument("service", choices=SERVICE_NAMES)
    _add_ops(loops)

    worker = add("worker", "carry out background tasks (Celery)", _worker)
    worker.add_argument("--queue", default="hallpass", help="whose tasks it carries out; a wrong name lists all")
    worker.add_argument("--pool", choices=("prefork", "threads", "solo"), default="prefork")
    worker.add_argument("--concurrency", type=int, default=2)
    worker.add_argument("--schedule", type=Path, help="also send what is due, and remember it in this file")
    _add_ops(worker)

    _add_ops(add("beat", "send background tasks when they are due; several may run", _beat))

    task = add("task", "do one background task here and now", _task)
    task.add_argument("name")

    republish = add("republish", "publish everything a service owns once more", _republish)
    republish.add_argument("service", choices=SERVICE_NAMES)

    unlock = add("unlock", "lift the lock that failed sign-ins put on a staff account", _unlock)
    unlock.add_argument("username")

    rescue = add("rescue", "give a staff account a new password, and take locks and second factor from it", _rescue)
    rescue.add_argument("username")

    dead = add("dead-letters", "list what a consumer failed at, send it again, or drop it", _dead_letters)
    dead.add_argument("what", choices=("list", "replay", "drop"))
    dead.add_argument("consumer", help="for example notify.events; a wrong name lists all")
    dead.add_argument("--id", action="append", default=[], help="this one only (may be repeated)")
    dead.add_argument("--reason", default="", help="why it is dropped, for the audit trail")

    front = add("front", "serve the first page, the API documentation and /healthz", _front)
    front.add_argument("--host", default="127.0.0.1")
    front.add_argument("--port", type=int, default=8000)
    front.add_argument(
        "--upstream",
        action="append",
        default=[],
        metavar="SERVICE=URL",
        help="where a service's API listens (once for each; default http://SERVICE:8000)",
    )

    secrets = add("secrets", "write fresh secrets, one file for each process of the distributed run", _secrets)
    secrets.add_argument("--folder", type=Path, default=Path("secrets"))
    secrets.add_argument("--postgres", default="postgres:5432", metavar="HOST:PORT")
    secrets.add_argument("--redis", default="redis:6379", metavar="HOST:PORT")
    secrets.add_argument("--rabbitmq", default="rabbitmq:5672", metavar="HOST:PORT")

    demo_data = add(
        "demo-data", "make three halls with items and two weeks of slots in a running installation", _demo_data
    )
    demo_data.add_argument("url", help="its address, for example http://127.0.0.1:8000")

    app = add("embedded-app", "the application process that `run` starts", _embedded_app)
    app.add_argument("--host", required=True)
    app.add_argument("--port", type=int, required=True)
    app.add_argument("--ops-socket", type=Path, required=True)
    app.add_argument("--password-file", type=Path, required=True)
    app.add_argument("--trusted-proxies")
    return parser


def _add_ops(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", default="127.0.0.1", help="where the ops port listens")
    command.add_argument("--ops-port", type=int, help="serves /livez, /readyz and /metrics")


def _run(_: argparse.Namespace) -> int:
    from deploy import embedded

    return embedded.run(os.environ)


def _migrate(chosen: argparse.Namespace) -> int:
    from deploy.prepare import prepare

    password = prepare(password_file=chosen.password_file)
    print("The database is ready: logins, schemas and migrations are up to date.")
    if password is not None:
        file = chosen.password_file
        then = "It has to be changed at the first sign-in." if file is None else f"{file} keeps it."
        print(f"The first account is `admin` with the password {password}\nIt is shown this once. {then}")
    return 0


def _api(chosen: argparse.Namespace) -> int:
    from deploy import processes

    return processes.api(chosen.service, host=chosen.host, port=chosen.port)


def _events(chosen: argparse.Namespace) -> int:
    from deploy import processes

    return processes.events(chosen.service, host=chosen.host, ops_port=chosen.ops_port)


def _republish(chosen: argparse.Namespace) -> int:
    from deploy import processes

    return processes.republish(chosen.service)


def _unlock(chosen: argparse.Namespace) -> int:
    from deploy import accounts

    return accounts.unlock(chosen.username)


def _rescue(chosen: argparse.Namespace) -> int:
    from deploy import accounts

    return accounts.rescue(chosen.username)


def _dead_letters(chosen: argparse.Namespace) -> int:
    from deploy import dead_letters

    if chosen.what == "list":
        return dead_letters.show(chosen.consumer)
    if chosen.what == "drop":
        return dead_letters.drop(chosen.consumer, chosen.id, reason=chosen.reason)
    return dead_letters.replay(chosen.consumer, chosen.id)


def _loops(chosen: argparse.Namespace) -> int:
    from deploy import processes

    return processes.loops(chosen.service, host=chosen.host, ops_port=chosen.ops_port)


def _worker(chosen: argparse.Namespace) -> int:
    with _metrics_of_all_processes(needed=chosen.pool == "prefork" and chosen.ops_port is not None):
        from deploy import jobs

        return jobs.worker(
            queue=chosen.queue,
            pool=chosen.pool,
            concurrency=chosen.concurrency,
            schedule=chosen.schedule,
            host=chosen.host,
            ops_port=chosen.ops_port,
        )


@contextmanager
def _metrics_of_all_processes(*, needed: bool) -> Iterator[None]:
    """Let the processes of a pool count into one folder; it has to be named before prometheus_client is loaded."""
    if not needed:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="hallpass-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield


def _beat(chosen: argparse.Namespace) -> int:
    from deploy import jobs

    return jobs.beat(host=chosen.host, ops_port=chosen.ops_port)


def _task(chosen: argparse.Namespace) -> int:
    from deploy import jobs

    return jobs.task(chosen.name)


def _front(chosen: argparse.Namespace) -> int:
    from deploy.front_process import run

    return run(host=chosen.host, port=chosen.port, upstreams=chosen.upstream)


def _secrets(chosen: argparse.Namespace) -> int:
    from deploy.secret_files import Addresses, write

    return write(chosen.folder, Addresses(chosen.postgres, chosen.redis, chosen.rabbitmq))


def _demo_data(chosen: argparse.Namespace) -> int:
    from deploy import demo_data

    return demo_data.load(chosen.url)


def _embedded_app(chosen: argparse.Namespace) -> int:
    from deploy import embedded_app

    return embedded_app.run(
        host=chosen.host,
        port=chosen.port,
        trusted_proxies=chosen.trusted_proxies,
        ops_socket=chosen.ops_socket,
        password_file=chosen.password_file,
    )
