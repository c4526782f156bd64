"""Getting the server programs that no Python package provides."""

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from deploy.servers.process import ServerError, find_program

# Name: what people call it, the program it must bring, and its Debian package.
PROGRAMS = {
    "rabbitmq": ("RabbitMQ", "rabbitmq-server", "rabbitmq-server"),
    "nginx": ("nginx", "nginx", "nginx"),
    "prometheus": ("Prometheus", "promtool", "prometheus"),
}

LOCK = "hallpass-install.lock"
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Hallpass: packages that are being installed start no services.\nexit 101\n"
NETWORK_TIMEOUT_S = 600


def ensure(*names: str) -> None:
    """Return when the programs are there, installing them where we may; ServerError says how a person gets them."""
    if not _missing(names):
        return
    if os.geteuid() != 0 or not find_program("apt-get"):
        raise missing(_missing(names)[0])
    with _only_one():
        wanted = _missing(names)  # another process may have installed them while we waited
        if not wanted:
            return
        _apt_get("update", wanted)
        with _no_services_started():
            _apt_get("install", wanted)
    if still := _missing(names):
        raise missing(still[0])


def missing(name: str) -> ServerError:
    """The sentence that says how to get a program."""
    title, _, package = PROGRAMS[name]
    return ServerError(
        f"{title} is not installed: `apt-get install {package}` as root installs it on Debian and Ubuntu."
    )


def _missing(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if find_program(PROGRAMS[name][1]) is None]


def _apt_get(action: str, names: list[str]) -> None:
    packages = [PROGRAMS[name][2] for name in names] if action == "install" else []
    options = ["-q", "-y", "-o", "DPkg::Lock::Timeout=300", *(["--no-install-recommends"] if packages else [])]
    done = subprocess.run(
        ["apt-get", *options, action, *packages],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=NETWORK_TIMEOUT_S,
    )
    # An update that failed for one of several sources may still know our packages: let the installation decide.
    if done.returncode and packages:
        end = "\n".join(done.stdout.rstrip().splitlines()[-12:])
        raise ServerError(f"`apt-get install {' '.join(packages)}` failed:\n{end}")


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    folder = next(folder for folder in (Path("/run/lock"), Path("/run"), Path("/tmp")) if folder.is_dir())  # noqa: S108
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _no_services_started() -> Iterator[None]:
    """Debian asks this file whether an installation may start services; one that is not ours keeps its say."""
    if _policy_is_ours():
        POLICY.unlink()  # an installation of ours was killed
    try:
        fd = os.open(POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    except FileExistsError:
        yield
        return
    try:
        with os.fdopen(fd, "w") as policy:
            policy.write(POLICY_TEXT)
            os.fchmod(policy.fileno(), 0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _policy_is_ours() -> bool:
    with contextlib.suppress(OSError):
        return POLICY.read_text() == POLICY_TEXT
    return False
