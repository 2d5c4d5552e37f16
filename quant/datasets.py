"""Data sets that come with a package: nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InputError

__all__ = ["Digits", "FloatImages", "digits"]

FloatImages = np.ndarray[Any, np.dtype[np.float32]]
Labels = np.ndarray[Any, np.dtype[np.int64]]

TEST_IMAGES, SELECT_IMAGES, CALIBRATION_IMAGES = 360, 200, 128


@dataclass(frozen=True, eq=False)
class Digits:
    """Handwritten digits, float32 images [n, 1, 8, 8] in 0..1, labels 0..9 as int64.

    Disjoint sets: `train`, `calibration` (ranges), `select` (scores and choices), `test` (results).
    """

    train_x: FloatImages
    train_y: Labels
    calibration_x: FloatImages
    select_x: FloatImages
    select_y: Labels
    test_x: FloatImages
    test_y: Labels


def digits(seed: int = 0) -> Digits:
    """The 1797 images of scikit-learn's load_digits, split by `seed` with equal shares of classes.

    360 test, 200 select, 128 calibration and 1109 training images. Source: E. Alpaydin and
    C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998. Raises InputError if
    scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise InputError(
            "the digits data set needs scikit-learn: pip install 'tercet[demo]'"
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    x = (pixels / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    rest = np.arange(len(x))
    parts = []
    for size in (TEST_IMAGES, SELECT_IMAGES, CALIBRATION_IMAGES):
        rest, part = train_test_split(
            rest, test_size=size, stratify=labels[rest], random_state=seed
        )
        parts.append(part)
    test, select, calibration = parts
    y = labels.astype(np.int64)
    return Digits(x[rest], y[rest], x[calibration], x[select], y[select], x[test], y[test])
