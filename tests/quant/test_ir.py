"""The graph's records refuse what they cannot mean."""

import dataclasses

import numpy as np
import pytest

from tercet.quant import ir

INT8 = ir.TensorType(bits=8, signed=True)
BIPOLAR = ir.TensorType(bits=1, signed=True, bipolar=True)


def _table(**more):
    return ir.Requantize(**{"multiplier": [1], "shift": [0], "out": INT8} | more)


def _dense(**more):
    values = {"name": "fc", "inputs": ("x",), "weight": [[1, 2]], "bias": [0]}
    return ir.Dense(**values | more)


def _conv(**more):
    weight = np.ones((2, 3, 3, 1), dtype=int)
    return ir.Conv2d(**{"name": "c", "inputs": ("x",), "weight": weight, "bias": [0, 0]} | more)


def _graph(nodes, output):
    return ir.Graph("g", "x", (2,), INT8, nodes, output)


@pytest.mark.parametrize(
    ("kind", "limits"),
    [
        (INT8, (-128, 127)),
        (ir.TensorType(bits=1, signed=False), (0, 1)),
        (ir.TensorType(bits=4, signed=False, zero_point=15), (0, 15)),
        (BIPOLAR, (-1, 1)),
    ],
)
def test_type_limits(kind, limits):
    assert (kind.lo, kind.hi) == limits


@pytest.mark.parametrize(
    "fields",
    [
        {"bits": 0, "signed": False},
        {"bits": 63, "signed": True},
        {"bits": 1, "signed": True},
        {"bits": 2, "signed": True, "bipolar": True},
        {"bits": 4, "signed": False, "zero_point": 16},
        {"bits": 4, "signed": True, "zero_point": -9},
    ],
)
def test_type_refuses(fields):
    with pytest.raises(ValueError, match=r"bit|zero_point"):
        ir.TensorType(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"multiplier": [1, 2]}, "one length"),
        ({"multiplier": [], "shift": []}, "empty"),
        ({"multiplier": [1.5]}, "integers"),
        ({"multiplier": [-1]}, "multiplier must lie"),
        ({"multiplier": [1 << 16]}, "multiplier must lie"),
        ({"multiplier": np.array([1 << 63], dtype=np.uint64)}, "64 bits"),
        ({"shift": [63]}, "shift must lie"),
        ({"m_bits": 32}, "m_bits"),
        ({"out": BIPOLAR}, "bipolar"),
        ({"lo": -129}, "clamp"),
        ({"lo": 5, "hi": 4}, "clamp"),
        ({"bound": [128]}, "bound"),
        ({"bound": [[1]]}, "vector"),
        ({"bound_kind": "other"}, "bound_kind"),
    ],
)
def test_requantize_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        _table(**fields)


def test_requantize_clamp_defaults_to_the_type():
    assert _table().limits == (-128, 127)


@pytest.mark.parametrize(
    ("values", "out", "message"),
    [
        ([[1, 2]], INT8, "1..4 bit"),
        ([[1, 2]], BIPOLAR, "shape"),
        ([[2, 1, 3]], ir.TensorType(bits=2, signed=False), "ascend"),
        ([[2**63 - 1, -(2**63), 2**63 - 1]], ir.TensorType(bits=2, signed=True), "ascend"),
    ],
)
def test_thresholds_refuse(values, out, message):
    with pytest.raises(ValueError, match=message):
        ir.Thresholds(values, out)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight": [[128, 0]]}, "fit 8 bits"),
        ({"weight": [[-9, 0]], "weight_bits": 4}, "fit 4 bits"),
        ({"weight_bits": 9}, "weight_bits"),
        ({"weight": [[0, 1]], "weight_bits": 1, "weight_bipolar": True}, "bipolar"),
        ({"bias": [0, 0]}, "bias has shape"),
        ({"bias": [1 << 40]}, "2\\^40"),
        ({"bias": [-(1 << 63)]}, "2\\^40"),
        ({"weight": [[0.5, 1.0]]}, "integers"),
        ({"weight": [1, 2], "bias": [0, 0]}, "out, in"),
        ({"inputs": ("x", "y")}, "takes 1 inputs"),
    ],
)
def test_dense_refuses_and_names_the_layer(fields, message):
    with pytest.raises(ValueError, match=f"^fc: .*{message}"):
        _dense(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stride": (0, 1)}, "stride"),
        ({"stride": (1,)}, "stride"),
        ({"padding": (3, 0, 0, 0)}, "smaller than the window"),
        ({"padding": (0, 0, 0, -1)}, "padding"),
        ({"dilation": (True, 1)}, "dilation"),
        ({"groups": 3}, "groups"),
    ],
)
def test_conv_refuses(fields, message):
    with pytest.raises(ValueError, match=f"^c: .*{message}"):
        _conv(**fields)


def test_dilation_widens_the_window():
    assert _conv(dilation=(2, 3), padding=(4, 6, 4, 6)).extent == (5, 7)


def test_add_makes_no_bipolar_sum():
    with pytest.raises(ValueError, match="bipolar"):
        ir.Add(name="a", inputs=("x", "x"), multipliers=(1, 1), shift=0, out=BIPOLAR)


def test_concat_needs_an_entry_for_each_input():
    with pytest.raises(ValueError, match="entry"):
        ir.Concat(name="c", inputs=("x", "x"), requantize=(None,), out=INT8)


def test_arrays_are_read_only_copies():
    weight = np.array([[1, 2]])
    node = _dense(weight=weight)
    weight[0, 0] = 9

    assert node.weight.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="read-only"):
        node.weight[0, 0] = 5


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        _dense().name = "other"


@pytest.mark.parametrize(
    ("nodes", "output", "message"),
    [
        ((_dense(inputs=("y",)),), "fc", "unknown or later operand 'y'"),
        ((_dense(), _dense()), "fc", "used twice"),
        ((_dense(name="x"),), "x", "used twice"),
        ((_dense(), _dense(name="b")), "fc", "b: nothing uses"),
        ((_dense(),), "x", "output"),
        ((), "x", "output"),
    ],
)
def test_graph_refuses(nodes, output, message):
    with pytest.raises(ValueError, match=message):
        _graph(nodes, output)


def test_graph_lookup():
    first, second = _dense(), ir.ArgMax(name="top1", inputs=("fc",))
    graph = _graph((first, second), "top1")

    assert graph.node("fc") is first
    assert graph.consumers("fc") == (second,)
    assert list(graph) == [first, second]
    with pytest.raises(KeyError):
        graph.node("none")
