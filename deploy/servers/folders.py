"""The private folder of one server: its owner, its lock, its secrets, its socket."""

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import secrets
import stat
import tempfile
from pathlib import Path

from deploy.servers.process import ServerError

SOCKET_PATH_LIMIT_BYTES = 100  # the kernel's is 108, with room for PostgreSQL's own suffixes
PLAIN_PATH = re.compile(r"[\w.~+@/-]+", re.ASCII)  # needs no quoting in any URL or configuration file


class FolderInUse(ServerError):
    """Another launcher holds the folder; `holder` is its process, unless it has only just come."""

    def __init__(self, folder: Path, holder: int | None) -> None:
        super().__init__(
            f"{folder} is in use by another launcher (process {holder or 'unknown'}): stop that one or choose another folder."
        )
        self.holder = holder


class PrivateFolder:
    """A folder that only its owner can look into, held by one launcher at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None
        self._elsewhere: Path | None = None

    def take(self, *, also_owned_by: int | None = None) -> None:
        """Make the folder if need be and hold it until `release`, or say why that cannot be.

        Its owner has to be who we are, or, for root, the account that the server runs under.
        """
        if self._lock is not None:
            return
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner({os.geteuid(), also_owned_by})
            self.path.chmod(self.path.stat().st_mode & 0o700)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileExistsError as error:
            raise ServerError(f"{self.path} is not a folder: choose another place or move that file away.") from error
        except OSError as error:
            raise ServerError(
                f"The folder {self.path} cannot be written ({error.strerror}): choose another or change its permissions."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 20).decode(errors="replace").strip()
            os.close(lock)
            raise FolderInUse(self.path, int(holder) if holder.isdecimal() else None) from error
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        self._lock = lock

    def release(self) -> None:
        if self._lock is not None:
            if self._elsewhere is not None:
                with contextlib.suppress(OSError):
                    self._elsewhere.rmdir()
            os.close(self._lock)
            self._lock = None

    def secret(self, name: str) -> str:
        """A random word, made at the first call and kept in a file that only the owner can read."""
        path = self.path / name
        with contextlib.suppress(FileNotFoundError):
            if word := path.read_text().strip():
                return word
        word = secrets.token_urlsafe(24)
        self.write(name, word + "\n")
        return word

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """Replace a file of ours as a whole."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.path / name
        fresh = path.with_name(f".{name}.{os.getpid()}.new")
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        return path

    def socket_folder(self, socket_name: str) -> Path:
        """Where a unix socket goes: inside this folder, or below the temporary one if our path is too long or too odd."""
        near = self.path / "run"
        if _fits(near / socket_name):
            return near
        short = f"hallpass-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]}-{os.geteuid()}"
        temporary = Path(tempfile.gettempdir()) / short
        return temporary if _fits(temporary / socket_name) else Path("/tmp") / short  # noqa: S108  # made 0700, checked

    def make_socket_folder(self, socket_name: str, *, owner: int | None = None) -> Path:
        """Make it, for us or for the account the server runs under; `release` removes one that lies elsewhere."""
        folder = _private(self.socket_folder(socket_name), owner)
        self._elsewhere = folder if folder.parent != self.path else None
        return folder

    def _check_owner(self, allowed: set[int | None]) -> None:
        owner = self.path.stat().st_uid
        if owner not in allowed:
            us = user_name(os.geteuid())
            raise ServerError(
                f"The folder {self.path} belongs to {user_name(owner)}, but this runs as {us}: "
                f"run it as {user_name(owner)}, or hand the folder over with `chown -R {us} {self.path}`."
            )


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) < SOCKET_PATH_LIMIT_BYTES and PLAIN_PATH.fullmatch(str(path)) is not None


def _private(folder: Path, owner: int | None) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ServerError(f"The folder {folder} for the socket cannot be made: {error.strerror}.") from error
    # The name below the temporary folder can be guessed, so somebody else may have made it before us.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), owner} or found.st_mode & 0o077:
        raise ServerError(f"{folder} is not a private folder of {user_name(os.geteuid())}: remove it and try again.")
    if owner not in (None, found.st_uid):
        os.chown(folder, owner, -1)
    return folder
