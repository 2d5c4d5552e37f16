"""Arrays from .npz files that may come from anywhere: no pickles, limits before allocation."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from .errors import InputError
from .names import printable

__all__ = ["MAX_BYTES", "load_array"]

MAX_BYTES = 1 << 30  # of one array, unpacked
MAX_HEADER = 10_000  # numpy's own limit for an array's header
KINDS = "fiub"
# RuntimeError: an encrypted or unknown compression.
BROKEN = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def load_array(path: Path, key: str = "x", max_bytes: int = MAX_BYTES) -> np.ndarray[Any, Any]:
    """The array `key` of the .npz file `path`: floating point, integer or bool.

    Raises InputError, naming the file: missing or broken file, no such key, objects (never
    unpickled), more than `max_bytes` bytes unpacked, or a header that claims more than is there.
    """
    name = printable(path.name)
    member = f"{key}.npy"
    try:
        with zipfile.ZipFile(path) as archive:
            if member not in archive.namelist():
                keys = ", ".join(printable(n.removesuffix(".npy")) for n in archive.namelist()[:8])
                raise InputError(f"{name}: has no array {key!r}; it holds: {keys or 'nothing'}")
            size = archive.getinfo(member).file_size
            if size > max_bytes:
                raise InputError(f"{name}: array {key!r} has {size} bytes; at most {max_bytes}")
            with archive.open(member) as stream:
                _check_header(stream, size, f"{name}: array {key!r}")
            with archive.open(member) as stream:
                return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except BROKEN as error:
        raise InputError(f"{name}: not a readable .npz file; write it with numpy.savez") from error


def _check_header(stream: IO[bytes], size: int, what: str) -> None:
    """Refuse object arrays and shapes that need more bytes than the `size` of the member."""
    version = np.lib.format.read_magic(stream)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(stream, max_header_size=MAX_HEADER)
    if dtype.kind not in KINDS:
        raise InputError(f"{what} must hold numbers, not {printable(str(dtype))}")
    if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize > size:
        raise InputError(f"{what} claims shape {shape}, more than the file holds")
