"""Constant arithmetic of exporters, sizes before allocation, and the rule of Reshape."""

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.quant.importers import onnx_constants
from tercet.quant.importers.onnx_constants import Folder
from tercet.quant.importers.onnx_file import OnnxNode
from tercet.quant.importers.onnx_layout import reshaped


def node(op, **attributes):
    return OnnxNode("n", op, "", ("a",), ("b",), attributes)


def ints(*values):
    return np.array(values, dtype=np.int64)


TABLE = np.arange(12).reshape(3, 4)
CASES = [
    ("Add", {}, [TABLE, ints(1)], TABLE + 1),
    ("Sub", {}, [TABLE, ints(1)], TABLE - 1),
    ("Mul", {}, [TABLE, ints(2)], TABLE * 2),
    ("Div", {}, [ints(-7, 7), ints(2, 2)], ints(-3, 3)),
    ("Div", {}, [np.float32([1, 3]), np.float32([2, 2])], np.float32([0.5, 1.5])),
    ("Neg", {}, [ints(3)], ints(-3)),
    ("Cast", {"to": 7}, [np.float32([1.5])], ints(1)),
    ("Concat", {"axis": 0}, [ints(1), ints(2, 3)], ints(1, 2, 3)),
    ("ConstantOfShape", {"value": ints(7)}, [ints(2, 2)], ints(7, 7, 7, 7).reshape(2, 2)),
    ("ConstantOfShape", {}, [ints(2)], np.float32([0, 0])),
    ("Gather", {"axis": 1}, [TABLE, ints(-1, 0)], TABLE[:, [3, 0]]),
    ("Gather", {}, [ints(5, 6), np.array(1)], np.array(6)),
    ("Reshape", {}, [TABLE, ints(0, -1, 2)], TABLE.reshape(3, 2, 2)),
    ("Shape", {}, [TABLE], ints(3, 4)),
    ("Slice", {}, [ints(1, 2, 3, 4), ints(-3), ints(99), ints(0), ints(2)], ints(2, 4)),
    ("Slice", {"starts": (1,), "ends": (3,)}, [ints(1, 2, 3, 4)], ints(2, 3)),
    ("Slice", {"starts": (0,), "ends": (2,), "axes": (1,)}, [TABLE], TABLE[:, :2]),
    ("Squeeze", {"axes": (0,)}, [TABLE[None]], TABLE),
    ("Squeeze", {}, [TABLE[None], ints(0)], TABLE),
    ("Transpose", {"perm": (1, 0)}, [TABLE], TABLE.T),
    ("Unsqueeze", {}, [TABLE, ints(0, 3)], TABLE[None, :, :, None]),
]


@pytest.mark.parametrize(("op", "attributes", "arrays", "expected"), CASES)
def test_fold(op, attributes, arrays, expected):
    made = Folder().fold(node(op, **attributes), arrays)

    assert made.dtype.kind == expected.dtype.kind
    assert np.array_equal(made, expected)


WRONG = [
    ("Cast", {"to": 8}, [ints(1)]),
    ("Concat", {}, [ints(1)]),
    ("Concat", {"axis": 0}, [ints(1), TABLE]),
    ("Div", {}, [ints(1), ints(0)]),
    ("Gather", {}, [ints(1, 2), ints(5)]),
    ("Reshape", {}, [TABLE, ints(5, -1)]),
    ("Slice", {}, [ints(1), ints(0)]),
    ("Transpose", {"perm": (0, 0)}, [TABLE]),
    ("Transpose", {"perm": "ab"}, [TABLE]),
    ("Unsqueeze", {}, [TABLE, ints(9)]),
    ("ConstantOfShape", {}, [ints(-3)]),
]


@pytest.mark.parametrize(("op", "attributes", "arrays"), WRONG)
def test_what_cannot_be_computed_names_the_node(op, attributes, arrays):
    with pytest.raises(InputError, match=rf"layer n \({op}\): cannot be computed"):
        Folder().fold(node(op, **attributes), arrays)


HUGE = [
    ("ConstantOfShape", [ints(10**6, 10**6)]),
    ("Add", [np.zeros((1, 1 << 14)), np.zeros((1 << 14, 1))]),
    ("Gather", [np.zeros((1, 1 << 14)), np.zeros(1 << 14, int)]),
]


@pytest.mark.parametrize(("op", "arrays"), HUGE)
def test_size_is_checked_before_allocation(op, arrays):
    with pytest.raises(InputError, match=rf"layer n \({op}\): .* elements, which is too large"):
        Folder().fold(node(op), arrays)


def test_results_count_together(monkeypatch):
    """Doubling a constant again and again ends."""
    monkeypatch.setattr(onnx_constants, "MAX_FOLDED", 1000)
    folder, double = Folder(), node("Concat", axis=0)
    array = ints(0)
    for _ in range(8):
        array = folder.fold(double, [array, array])

    with pytest.raises(InputError, match="512 elements, which is too large"):
        folder.fold(double, [array, array])


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((1, 4, 2, 3), [1, 24], (1, 24)),
        ((1, 4, 2, 3), [-1, 24], (1, 24)),
        ((1, 4, 2, 3), [0, -1], (1, 24)),
        ((8, 4, 2, 3), [8, -1], (8, 24)),
        ((1, 4, 1, 1), [0, 0], (1, 4)),
    ],
)
def test_reshape(source, target, expected):
    assert reshaped(node("Reshape"), source, target) == expected


@pytest.mark.parametrize("target", [[24], [-1, -1], [1, 25], [2, 12], [1, 0], [-2, 12], [24, 1]])
def test_reshape_that_does_not_fit(target):
    with pytest.raises(InputError, match=r"layer n \(Reshape\): reshapes"):
        reshaped(node("Reshape"), (1, 4, 2, 3), target)
