"""Compiled models kept between runs: one folder an entry, named by the hash of all that made it.

The cache is $XDG_CACHE_HOME/tercet (else ~/.cache/tercet), mode 0700 and the caller's own, since
its entries are executed. An entry appears by an atomic rename, so a reader never sees half of one;
a lock makes processes that want the same entry wait for the first instead of compiling it twice.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..quant.errors import InputError

__all__ = ["entry", "key", "root", "scratch"]

UNUSED_DAYS = 30


def root() -> Path:
    """The cache folder, made if need be; raises InputError if it is not safely the caller's."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
    folder = base / "tercet"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise InputError(f"{folder}: not a folder of your own; set XDG_CACHE_HOME to one")
        if stat.S_IMODE(status.st_mode) != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; set XDG_CACHE_HOME") from None
    return folder


def key(*parts: str | bytes) -> str:
    """SHA-256 over the parts, each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def entry(kind: str, name: str, build: Callable[[Path], None]) -> Path:
    """The folder of entry `name`; if it is not there, `build` fills an empty folder first.

    What `build` raises goes through, and leaves no entry. Entries of this kind that nobody used
    for 30 days are removed when a new one is made.
    """
    shelf = root() / kind
    shelf.mkdir(mode=0o700, exist_ok=True)
    folder = shelf / name
    if _touch(folder):
        return folder
    with _locked(shelf / f".{name}.lock"):
        if _touch(folder):
            return folder
        _prune(shelf)
        work = Path(tempfile.mkdtemp(prefix=".new-", dir=shelf))
        try:
            build(work)
            work.rename(folder)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return folder


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder inside the cache, removed at the end."""
    shelf = root() / "scratch"
    shelf.mkdir(mode=0o700, exist_ok=True)
    _prune(shelf)
    with tempfile.TemporaryDirectory(dir=shelf) as name:
        yield Path(name)


def _touch(folder: Path) -> bool:
    """Note that the entry is used; False if there is none."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prune(shelf: Path) -> None:
    oldest = time.time() - UNUSED_DAYS * 86400
    for path in shelf.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime >= oldest:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
