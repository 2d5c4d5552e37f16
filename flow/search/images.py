"""The images that a search trains and judges networks on: digits, or a file of one's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...quant.datasets import FloatImages, digits
from ...quant.errors import InputError
from ...quant.names import printable
from ...quant.npz import load_array
from .space import DataSpec

__all__ = ["Images", "content_digest", "describe", "load_images"]

DIGITS_SHAPE, DIGITS_CLASSES = (1, 8, 8), 10
SHARES = {"test": 0.2, "select": 0.11, "calibration": 0.07}
"""Shares of every class; the rest is for training. Those of `quant.datasets.digits`."""

LEAST = 10
"""Images of a class below which a share would be empty."""

Labels = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class Images:
    """Float32 images [n, c, h, w] in 0..1 and labels, int64 [n], in disjoint sets.

    `train` for training, `calibration` for ranges and sensitivity, `select` for the error that a
    search minimises, `test` for what is reported at the end.
    """

    train_x: FloatImages
    train_y: Labels
    calibration_x: FloatImages
    select_x: FloatImages
    select_y: Labels
    test_x: FloatImages
    test_y: Labels


def describe(images: Path | None, seed: int) -> DataSpec:
    """What a space says of its images: the digits, or an .npz file that is read and checked.

    The file holds `x`, real numbers [n, c, h, w] in 0..1, and `labels`, integers [n] from 0 on, ten
    images or more of each class. Raises InputError naming the file.
    """
    if images is None:
        return DataSpec("digits", seed, DIGITS_SHAPE, DIGITS_CLASSES)
    x, y = _read(images)
    shape = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
    return DataSpec(images.name, seed, shape, int(y.max()) + 1, images, content_digest(images))


def load_images(data: DataSpec) -> Images:
    """The images, split by the seed. InputError if the file changed since the space was read, or
    the digits need a package that is missing."""
    if data.images is None:
        return Images(**vars(digits(data.seed)))
    if not data.images.is_file() or content_digest(data.images) != data.content:
        raise InputError(f"{printable(data.name)}: changed since the space was read; start again")
    return _split(*_read(data.images), data.seed)


def content_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> tuple[FloatImages, Labels]:
    where = printable(path.name)
    x, labels = load_array(path), load_array(path, "labels")
    if x.ndim != 4 or x.dtype.kind != "f" or not x.size:
        raise InputError(
            f"{where}: array 'x' must be real numbers [n, c, h, w], not {x.dtype} {x.shape}"
        )
    if not (np.isfinite(x).all() and x.min() >= 0 and x.max() <= 1):
        raise InputError(f"{where}: array 'x' must lie in 0..1; divide by the largest value")
    if labels.shape != (len(x),) or labels.dtype.kind not in "iu":
        raise InputError(
            f"{where}: array 'labels' must be integers [{len(x)}], not {labels.dtype} "
            f"{labels.shape}"
        )
    y = labels.astype(np.int64)
    if y.min() < 0:
        raise InputError(f"{where}: array 'labels' must count from 0, not {y.min()}")
    _check_classes(where, y)
    return x.astype(np.float32), y


def _check_classes(where: str, y: Labels) -> None:
    """InputError, naming a class, unless there are two at least, and enough images of each."""
    present, counts = np.unique(y, return_counts=True)
    images = dict(zip(present.tolist(), counts.tolist(), strict=True))
    classes = max(2, int(present[-1]) + 1)
    scarce = next((one for one in range(classes) if images.get(one, 0) < LEAST), None)
    if scarce is not None:
        raise InputError(
            f"{where}: class {scarce} has {images.get(scarce, 0)} images; give two classes or "
            f"more, and {LEAST} images of each"
        )


def _split(x: FloatImages, y: Labels, seed: int) -> Images:
    """The sets, with the same shares of every class."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Any]] = {name: [] for name in (*SHARES, "train")}
    for label in range(int(y.max()) + 1):
        rest = rng.permutation(np.flatnonzero(y == label))
        total = len(rest)
        for name, share in SHARES.items():
            count = max(1, round(share * total))
            parts[name].append(rest[:count])
            rest = rest[count:]
        parts["train"].append(rest)
    index = {name: rng.permutation(np.concatenate(found)) for name, found in parts.items()}
    train, calibration, select, test = (
        index[name] for name in ("train", "calibration", "select", "test")
    )
    return Images(x[train], y[train], x[calibration], x[select], y[select], x[test], y[test])
