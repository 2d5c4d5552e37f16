"""Image data sets from files of a folder that the caller names: nothing is downloaded or unpickled.

Sizes are known, so a file is never expanded beyond its own size.
"""

from __future__ import annotations

import gzip
import lzma
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .names import printable

__all__ = ["CIFAR10_MEAN", "CIFAR10_STD", "Images", "cifar10", "idx_images", "scaled"]

CIFAR10_MEAN, CIFAR10_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Labels = np.ndarray[Any, np.dtype[np.int64]]
FloatImages = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, eq=False)
class Images:
    """Pixels uint8 [n, channels, rows, columns] and labels int64 [n], to train and to test."""

    train_x: Pixels
    train_y: Labels
    test_x: Pixels
    test_y: Labels


def idx_images(folder: str | Path) -> Images:
    """MNIST or Fashion-MNIST: the four gzipped idx files of their authors in `folder`.

    [60000, 1, 28, 28] and [10000, 1, 28, 28]. Raises InputError naming a missing or wrong file.
    """
    folder = Path(folder)
    parts: list[Any] = []
    for kind, count in (("train", 60_000), ("t10k", 10_000)):
        pixels = _idx(folder / f"{kind}-images-idx3-ubyte.gz", (count, 28, 28))
        labels = _idx(folder / f"{kind}-labels-idx1-ubyte.gz", (count,))
        parts += [pixels[:, None], labels.astype(np.int64)]
    return Images(*parts)


def cifar10(folder: str | Path) -> Images:
    """CIFAR-10 as train_images.u8.xz, test1000_images.u8.xz and *_labels.npy in `folder`.

    [50000, 3, 32, 32] and the first 1,000 of the test set. The .xz files hold the planes red minus
    green, green, blue minus green, each as differences along rows and columns, modulo 256. Raises
    InputError naming a missing or wrong file.
    """
    folder = Path(folder)
    parts: list[Any] = []
    for kind, count in (("train", 50_000), ("test1000", 1_000)):
        planes = _expand(folder / f"{kind}_images.u8.xz", lzma.open, 3 * count * 32 * 32)
        planes = planes.reshape(3, count, 32, 32)
        planes = planes.cumsum(2, dtype=np.uint8).cumsum(3, dtype=np.uint8)
        planes[0] += planes[1]
        planes[2] += planes[1]
        labels = _labels(folder / f"{kind}_labels.npy", count)
        parts += [np.ascontiguousarray(planes.transpose(1, 0, 2, 3)), labels]
    return Images(*parts)


def scaled(
    pixels: Pixels, mean: tuple[float, ...] = (0.0,), std: tuple[float, ...] = (1.0,)
) -> FloatImages:
    """(pixels / 255 - mean) / std per channel, float32 [n, channels, rows, columns]."""
    shape = (1, -1, 1, 1)
    low = np.asarray(mean, dtype=np.float32).reshape(shape)
    width = np.asarray(std, dtype=np.float32).reshape(shape)
    real: FloatImages = (pixels.astype(np.float32) / np.float32(255) - low) / width
    return real


def _idx(path: Path, shape: tuple[int, ...]) -> Pixels:
    header = 4 * (1 + len(shape))
    data = _expand(path, gzip.open, header + math.prod(shape))
    found = tuple(int.from_bytes(data[4 * i : 4 * i + 4].tobytes(), "big") for i in range(1, 4))
    if tuple(data[:4]) != (0, 0, 8, len(shape)) or found[: len(shape)] != shape:
        raise InputError(f"{printable(path.name)}: is not an idx file of bytes {shape}")
    return data[header:].reshape(shape)


def _labels(path: Path, count: int) -> Labels:
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{printable(path.name)}: cannot be read: {_reason(error)}") from None
    if labels.shape != (count,) or labels.dtype != np.uint8:
        raise InputError(f"{printable(path.name)}: must hold {count} labels of type uint8")
    result: Labels = labels.astype(np.int64)
    return result


def _expand(path: Path, opener: Callable[[Path], Any], size: int) -> Pixels:
    try:
        with opener(path) as file:
            data = file.read(size + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(f"{printable(path.name)}: cannot be read: {_reason(error)}") from None
    if len(data) != size:
        more = "more" if len(data) > size else "fewer"
        raise InputError(f"{printable(path.name)}: holds {more} than {size} bytes; fetch it again")
    return np.frombuffer(data, np.uint8)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(" ".join(text.split()))
