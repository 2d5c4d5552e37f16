"""Frames from files: integers as they are, real values through the input's scale, labels."""

import dataclasses

import numpy as np
import pytest

from tercet.flow.frames import read_frames
from tercet.quant.errors import InputError


@pytest.fixture
def write(tmp_path):
    """write(**arrays) -> path of x.npz."""

    def put(**arrays):
        np.savez(tmp_path / "x.npz", **arrays)
        return tmp_path / "x.npz"

    return put


def test_integers_are_taken_as_they_are(small, write):
    frames = small.frames(3)

    for kind in (np.int64, np.uint8):
        x, labels = read_frames(small.graph(), write(x=frames.astype(kind)))
        assert x.dtype == np.int64
        assert (x == frames).all()
        assert labels is None


def test_real_values_are_quantised_and_turned_channels_last(small, write):
    """Scale 0.25 and zero point 6: value v is 6 + 4 v, cut at 0 and 15."""
    real = np.zeros((2, 2, 3, 4), np.float32)
    real[0, 1, 2, 3] = 1.25
    real[1, 0, 0, 0] = -9.0
    real[1, 1, 0, 1] = 9.0

    x, _ = read_frames(small.graph(), write(x=real))

    assert x.shape == (2, 3, 4, 2)
    assert x[0, 2, 3, 1] == 11
    assert (x[1, 0, 0, 0], x[1, 0, 1, 1]) == (0, 15)
    assert (x == 6).sum() == x.size - 3


def test_labels_come_along(small, write):
    _, labels = read_frames(small.graph(), write(x=small.frames(3), labels=np.array([2, 0, 1])))

    assert labels.tolist() == [2, 0, 1]


def without_scale(graph):
    return dataclasses.replace(graph, input_type=dataclasses.replace(graph.input_type, scale=None))


BAD = [
    ({"x": np.zeros((0, 3, 4, 2), int)}, r"x\.npz: array 'x' is empty; give at least one input"),
    ({"x": np.zeros((1, 3, 4), int)}, r"x\.npz: x: shape \(1, 3, 4\) is not"),
    ({"x": np.full((1, 3, 4, 2), -1)}, r"x\.npz: x: values outside 0\.\.15"),
    ({"x": np.zeros((2, 3, 4, 2), int), "labels": np.zeros(1, int)}, r"labels has shape \(1,\)"),
    ({"labels": np.zeros(1, int)}, r"x\.npz: has no array 'x'; it holds: labels"),
    ({"x": np.zeros((1, 2, 3, 3))}, r"x\.npz: inputs have shape \(1, 2, 3, 3\)"),
    ({"x": np.full((1, 2, 3, 4), np.nan)}, r"x\.npz: inputs hold NaN"),
    ({"x": np.array([object()], dtype=object)}, r"x\.npz"),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "match"), BAD, ids=[match for _, match in BAD])
def test_bad_frames_are_one_line_that_names_the_file(small, write, arrays, match):
    with pytest.raises(InputError, match=match) as error:
        read_frames(small.graph(), write(**arrays))
    assert "\n" not in str(error.value)


def test_real_values_need_an_input_scale(small, write):
    graph = without_scale(small.graph())

    with pytest.raises(InputError, match=r"x\.npz: input x has no scale; give integers"):
        read_frames(graph, write(x=np.zeros((1, 2, 3, 4))))


def test_a_file_that_is_not_there(small, tmp_path):
    with pytest.raises(InputError, match=r"none\.npz: no such file"):
        read_frames(small.graph(), tmp_path / "none.npz")
