"""The digits: sizes, shares, disjointness, reproducibility."""

import numpy as np
import pytest

from tercet.quant.datasets import digits
from tercet.quant.errors import InputError


def images(data):
    return [data.train_x, data.calibration_x, data.select_x, data.test_x]


def test_sizes_and_values():
    data = digits()

    assert [len(part) for part in images(data)] == [1109, 128, 200, 360]
    assert [len(data.train_y), len(data.select_y), len(data.test_y)] == [1109, 200, 360]
    for part in images(data):
        assert part.dtype == np.float32
        assert part.shape[1:] == (1, 8, 8)
        assert part.min() == 0.0
        assert part.max() == 1.0
        assert (part * 16 == np.rint(part * 16)).all()


def test_classes_have_equal_shares():
    data = digits()
    for labels in (data.train_y, data.select_y, data.test_y):
        counts = np.bincount(labels, minlength=10)

        assert counts.min() >= 0.9 * len(labels) / 10


def test_every_image_is_in_one_set():
    rows = np.concatenate([part.reshape(-1, 64) for part in images(digits())])

    assert len(np.unique(rows, axis=0)) == len(rows) == 1797


def test_seed_gives_the_split():
    assert (digits(3).test_x == digits(3).test_x).all()
    assert (digits(3).test_y != digits(4).test_y).any()


def test_missing_scikit_learn(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)

    with pytest.raises(InputError, match=r"tercet\[demo\]"):
        digits()
