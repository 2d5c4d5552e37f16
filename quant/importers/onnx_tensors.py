"""Constants of an ONNX file as arrays: sizes are checked before anything is allocated.

A tensor's bytes stand in the file itself or in a file beside it. The latter lies inside the model's
folder and is reached without `..` and without symbolic links.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import InputError
from ..names import printable

__all__ = ["FOUR_BIT", "MAX_TENSOR_ELEMENTS", "Array", "TensorReader"]

MAX_TENSOR_ELEMENTS = 1 << 26
MAX_TOTAL_BYTES = 1 << 30  # of all constants together
MAX_RANK = 8

Array = np.ndarray[Any, Any]

# TensorProto.DataType (onnx.proto): number -> NumPy type, and the field that holds short tensors.
FOUR_BIT = _UINT4, _INT4 = 21, 22
_TYPES: dict[int, tuple[Any, str]] = {
    1: (np.float32, "float_data"),
    2: (np.uint8, "int32_data"),
    3: (np.int8, "int32_data"),
    4: (np.uint16, "int32_data"),
    5: (np.int16, "int32_data"),
    6: (np.int32, "int32_data"),
    7: (np.int64, "int64_data"),
    9: (np.bool_, "int32_data"),
    10: (np.float16, "int32_data"),
    11: (np.float64, "double_data"),
    12: (np.uint32, "uint64_data"),
    13: (np.uint64, "uint64_data"),
    _UINT4: (np.uint8, "int32_data"),
    _INT4: (np.int8, "int32_data"),
}
_NAMES = "float16, float32, float64, int4..int64, uint4..uint64, bool"


class TensorReader:
    """Reads the constants of one model; `folder` is where the model's file lies.

    `read` raises InputError, naming the tensor, for a type that is not numeric, a size that is too
    large or does not match the bytes that are there, and external data outside the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.total_bytes = 0

    def read(self, tensor: Any, name: str) -> Array:
        """The array of a TensorProto; `name` is what messages call it."""
        what = f"tensor {printable(name)}"
        if tensor.data_type not in _TYPES:
            raise InputError(f"{what}: its type is not a number that is read; known: {_NAMES}")
        kind, field = _TYPES[tensor.data_type]
        shape = self._shape(tensor, what, np.dtype(kind).itemsize)
        packed = tensor.data_type in FOUR_BIT
        count = math.prod(shape)
        stored = (count + 1) // 2 if packed else count
        size = stored * np.dtype(kind).itemsize
        if tensor.data_location == 1:
            flat = _from_bytes(self._external(tensor, what, size), kind, size, what)
        elif tensor.HasField("raw_data"):
            flat = _from_bytes(tensor.raw_data, kind, size, what)
        else:
            flat = _from_field(getattr(tensor, field), kind, stored, what)
        if packed:
            flat = _unpack(flat, count)
        array = flat.reshape(shape)
        array.setflags(write=False)
        return array

    def _shape(self, tensor: Any, what: str, itemsize: int) -> tuple[int, ...]:
        shape = tuple(int(n) for n in tensor.dims)
        if len(shape) > MAX_RANK or min(shape, default=0) < 0:
            raise InputError(f"{what}: a shape needs 0..{MAX_RANK} axes of 0 or more")
        elements = math.prod(max(n, 1) for n in shape)
        if elements > MAX_TENSOR_ELEMENTS:
            raise InputError(
                f"{what}: claims {elements} elements; at most {MAX_TENSOR_ELEMENTS} are read, "
                "export a smaller model"
            )
        self.total_bytes += elements * itemsize
        if self.total_bytes > MAX_TOTAL_BYTES:
            raise InputError(
                f"{what}: with it the constants have more than {MAX_TOTAL_BYTES} bytes; "
                "export a smaller model"
            )
        return shape

    def _external(self, tensor: Any, what: str, size: int) -> bytes:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        path = self._inside(entries.get("location", ""), what)
        numbers = [entries.get("offset") or "0", entries.get("length") or str(size)]
        if not all(text.isascii() and text.isdecimal() and len(text) < 19 for text in numbers):
            raise InputError(f"{what}: offset and length of external data must be whole numbers")
        offset, length = map(int, numbers)
        if length != size:
            raise InputError(
                f"{what}: external data of {length} bytes for a tensor of {size}; export it again"
            )
        if offset + length > path.stat().st_size:
            raise InputError(
                f"{what}: external data ends behind the end of {printable(path.name)}; "
                "copy the whole file beside the model"
            )
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def _inside(self, location: str, what: str) -> Path:
        """The file of external data, never outside the model's folder."""
        parts = PurePosixPath(location.replace("\\", "/")).parts
        shown = printable(location)
        if not parts or "\0" in location or ":" in location:
            raise InputError(f"{what}: external data names no file: {shown!r}; export it again")
        if parts[0].startswith("/") or ".." in parts:
            raise InputError(
                f"{what}: external data {shown} lies outside the model's folder; "
                "put it beside the model and export with a plain file name"
            )
        path = self.folder
        for part in parts:
            path = path / part
            if path.is_symlink():
                raise InputError(
                    f"{what}: external data {shown} is a symbolic link; put the file itself there"
                )
        if not path.is_file():
            raise InputError(f"{what}: external data {shown}: no such file beside the model")
        return path


def _from_bytes(data: bytes, kind: Any, size: int, what: str) -> Array:
    if len(data) != size:
        raise InputError(
            f"{what}: has {len(data)} bytes where its shape needs {size}; the file is damaged, "
            "export it again"
        )
    return np.frombuffer(data, dtype=np.dtype(kind).newbyteorder("<")).astype(kind)


def _from_field(values: Any, kind: Any, count: int, what: str) -> Array:
    if len(values) != count:
        raise InputError(
            f"{what}: holds {len(values)} numbers where its shape needs {count}; the file is "
            "damaged, export it again"
        )
    if kind is np.float16:  # stored as bit patterns
        return np.array(values, dtype=np.int64).astype(np.uint16).view(np.float16)
    array = np.array(values, dtype=np.float64 if kind in (np.float32, np.float64) else None)
    return array.astype(kind)


def _unpack(flat: Array, count: int) -> Array:
    """Two 4-bit numbers a byte, the lower half first."""
    raw = flat.view(np.uint8)
    nibbles = np.stack([raw & 15, raw >> 4], axis=1).reshape(-1)[:count]
    if flat.dtype == np.uint8:
        return nibbles
    signed: Array = ((nibbles.astype(np.int8) ^ 8) - 8).astype(np.int8)
    return signed
