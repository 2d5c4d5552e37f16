"""Shapes and the checks between a node and its operands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.quant import ir, reference, shapes
from tercet.quant.errors import InputError

INT8 = ir.TensorType(bits=8, signed=True)
BIPOLAR = ir.TensorType(bits=1, signed=True, bipolar=True)


def _table(channels=1, out=INT8, **more):
    return ir.Requantize([1] * channels, [0] * channels, out, **more)


def _conv(name="c", inputs=("x",), out=4, cin=3, k=3, **more):
    weight = np.ones((out, k, k, cin), dtype=int)
    values = {"weight": weight, "bias": [0] * out, "requantize": _table()}
    return ir.Conv2d(name=name, inputs=inputs, **values | more)


def _dense(cin, **more):
    values = {"name": "fc", "inputs": ("x",), "weight": np.ones((2, cin), dtype=int)}
    return ir.Dense(**values | {"bias": [0, 0], "requantize": _table()} | more)


def _graph(*nodes, shape=(8, 8, 3), kind=INT8):
    return ir.Graph("g", "x", shape, kind, nodes, nodes[-1].name)


def _avg(**more):
    fields = {"kernel": (2, 2), "stride": (2, 2), "requantize": _table()}
    return ir.AvgPool(name="p", inputs=("x",), **fields | more)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_shapes_are_those_of_the_reference(random_graph, random_input, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)

    found = shapes.infer(graph)

    values = reference.execute(graph, random_input(rng, graph, 1))
    assert found == {name: value.shape[1:] for name, value in values.items()}


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({}, (6, 6, 4)),
        ({"padding": (1, 1, 1, 1)}, (8, 8, 4)),
        ({"padding": (1, 1, 1, 1), "stride": (2, 2)}, (4, 4, 4)),
        ({"dilation": (2, 3)}, (4, 2, 4)),
        ({"cin": 1, "groups": 3, "out": 6}, (6, 6, 6)),
    ],
)
def test_conv(fields, shape):
    assert shapes.infer(_graph(_conv(**fields)))["c"] == shape


REFUSED = [
    (_graph(_conv(cin=4)), "c: .*3 channels"),
    (_graph(_conv(k=9)), "c: the window"),
    (_graph(_conv(), shape=(3,)), r"c: .*needs \(h, w, c\)"),
    (_graph(_dense(192)), r"fc: .*Flatten"),
    (_graph(_dense(4), shape=(5,)), "fc: .*5 features"),
    (_graph(_conv(requantize=_table(3))), "c: multiplier has 3 rows for 4"),
    (_graph(_conv(requantize=_table(bound=[1, 2]))), "c: bound has 2 rows for 4"),
    (
        _graph(_conv(requantize=ir.Thresholds([[1]] * 2, BIPOLAR))),
        "c: thresholds has 2 rows for 4",
    ),
    (_graph(_avg(requantize=_table(2))), "p: multiplier has 2 rows for 3"),
    (_graph(_avg(kernel=(9, 9))), "p: the window"),
    (
        _graph(
            ir.GlobalAvgPool(name="p", inputs=("x",), requantize=_table(2)),
        ),
        "p: multiplier",
    ),
    (
        _graph(
            _conv(),
            ir.Add(name="a", inputs=("x", "c"), multipliers=(1, 1), shift=0, out=INT8),
        ),
        "a: adds shapes",
    ),
    (
        _graph(
            _conv(),
            ir.Concat(name="j", inputs=("x", "c"), requantize=(None, None), out=INT8),
        ),
        r"j: joins .* \(operand c\)",
    ),
    (
        _graph(
            ir.Concat(name="j", inputs=("x",), requantize=(_table(2),), out=INT8),
        ),
        "j: multiplier has 2 rows for 3",
    ),
    (_graph(ir.ArgMax(name="a", inputs=("x",))), "a: .*Flatten"),
    (_graph(ir.Pad(name="p", inputs=("x",)), shape=(4,)), "p: "),
    (_graph(ir.Pad(name="p", inputs=("x",), padding=(1 << 40, 0, 0, 0))), "p: .*elements"),
    (_graph(ir.ArgMax(name="a", inputs=("x",)), shape=(1 << 27,)), "x: .*elements"),
    (
        _graph(_conv(k=2, dilation=(1 << 30, 1), padding=(1 << 30, 0, 0, 0))),
        "c, padded operand: .*elements",
    ),
    (
        _graph(
            _conv(requantize=None),
            ir.MaxPool(name="m", inputs=("c",), kernel=(2, 2), stride=(2, 2)),
        ),
        "m: operand c is an accumulator",
    ),
    (_graph(_conv(padding=(1, 0, 0, 0)), kind=BIPOLAR), "c: a bipolar operand"),
    (_graph(_avg(padding=(0, 1, 0, 0)), kind=BIPOLAR), "p: a bipolar operand"),
    (_graph(ir.Pad(name="p", inputs=("x",), channels=(0, 1)), kind=BIPOLAR), "p: a bipolar"),
    (
        _graph(
            ir.Concat(
                name="j",
                inputs=("x",),
                requantize=(None,),
                out=ir.TensorType(bits=8, signed=True, zero_point=1),
            )
        ),
        "j: operand x passes unchanged",
    ),
]


@pytest.mark.parametrize(("graph", "message"), REFUSED)
def test_refused_in_one_line_that_names_the_layer(graph, message):
    with pytest.raises(InputError, match=f"^{message}") as caught:
        shapes.infer(graph)

    assert "\n" not in str(caught.value)


def test_types_without_scale_are_equal_in_concat():
    out = ir.TensorType(bits=8, signed=True, scale=0.5)
    node = ir.Concat(name="j", inputs=("x", "x"), requantize=(None, None), out=out)

    assert shapes.infer(_graph(node))["j"] == (8, 8, 6)


def test_declared_types_leave_accumulators_open():
    flat = ir.Flatten(name="f", inputs=("c",))

    kinds = shapes.declared_types(_graph(_conv(requantize=None), flat))

    assert kinds == {"x": INT8, "c": None, "f": None}
