"""Pools, padding, slices and the end of quantised networks, against onnxruntime."""

import functools

import numpy as np
import pytest

from tercet.quant import ir
from tercet.quant.errors import InputError
from tercet.quant.importers.onnx_model import load_onnx

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def models(helper):
    return helper("quant", "onnx_models")


@pytest.fixture
def agree(models, tmp_path):
    """agree(maker, output, share=0): the graph, checked against onnxruntime layer by layer."""
    return functools.partial(models.agree, tmp_path / "m.onnx")


POOLS = [
    ("MaxPool", {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 1, 0, 1]}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1] * 4}),
    ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("GlobalAveragePool", {}),
    ("GlobalMaxPool", {}),
    ("ReduceMean", {"axes": [2, 3], "keepdims": 1}),
    ("ReduceMean", {"axes": [-1, -2], "keepdims": 0}),
]


@pytest.mark.parametrize(("op", "options"), POOLS, ids=str)
@pytest.mark.parametrize("zero", [0, 77])
def test_pools(models, agree, op, options, zero):
    m = models.Maker([1, 3, 7, 5])
    y = m.node(op, m.qdq("x", 0.02, zero), **options)
    keeps = "Max" in op
    graph = agree(m, m.qdq(y, 0.02 if keeps else 0.013, zero if keeps else 11), share=0.01)

    mean = "GlobalAvgPool" if options.get("keepdims") == 0 else "AvgPool"
    assert models.kinds(graph) == ["MaxPool" if keeps else mean]


def test_global_pool_and_flatten_become_one_node(models, agree):
    m = models.Maker([1, 3, 4, 4])
    y = m.qdq(m.node("GlobalAveragePool", m.qdq("x", 0.02)), 0.013)
    y = m.node("Gemm", m.node("Flatten", y), m.weight((4, 3)), transB=1)
    graph = agree(m, m.qdq(y, 0.02, 128))

    assert models.kinds(graph) == ["GlobalAvgPool", "Dense"]


def test_classifier_as_convolution_of_a_vector(models, agree):
    """A 1x1 convolution behind a mean whose axes a Reshape took and an Unsqueeze gave back."""
    m = models.Maker([1, 3, 4, 4])
    y = m.qdq(m.node("ReduceMean", m.qdq("x", 0.02), axes=[2, 3], keepdims=0), 0.013)
    y = m.node("Unsqueeze", y, m.constant([2, 3], np.int64))
    y = m.node("Conv", y, m.weight((5, 3, 1, 1)))
    y = m.node("Squeeze", m.qdq(y, 0.02, 128), m.constant([2, 3], np.int64))
    graph = agree(m, m.qdq(y, 0.02, 128))

    assert models.kinds(graph) == ["GlobalAvgPool", "Dense"]


@pytest.mark.parametrize("channels", [0, 2])
def test_pad(models, agree, channels):
    m = models.Maker([1, 2, 4, 4])
    pads = m.constant([0, 0, 1, 0, 0, channels, 1, 2], np.int64)
    y = m.qdq(m.node("Pad", m.qdq("x", 0.02, 55), pads), 0.02, 55)
    y = m.node("Conv", y, m.weight((3, 2 + channels, 3, 3)))
    graph = agree(m, m.qdq(y, 0.05, 128))

    assert models.kinds(graph) == (["Pad", "Conv2d"] if channels else ["Conv2d"])
    assert graph.nodes[-1].padding == ((0, 0, 0, 0) if channels else (1, 0, 1, 2))


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_at_the_end_is_left_out(models, tmp_path, op):
    m, y = models.small_qdq()
    z = m.qdq(m.node(op, y, axis=1), 1 / 255)
    model = load_onnx(m.save(tmp_path / "m.onnx", z))

    assert type(model.graph.node(model.graph.output)) is ir.Dense
    assert model.graph.node(model.graph.output).requantize.out.zero_point == 120
    assert "left out" in model.notes[0]


def test_layer_behind_a_softmax_is_refused(models, tmp_path):
    m, y = models.small_qdq()
    z = m.node("Gemm", m.qdq(m.node("Softmax", y), 1 / 255), m.weight((3, 3)))

    with pytest.raises(InputError, match=r"Gemm_.*Softmax.*must be the last"):
        load_onnx(m.save(tmp_path / "m.onnx", z))


def test_argmax(models, tmp_path):
    m, y = models.small_qdq()
    model = load_onnx(m.save(tmp_path / "m.onnx", m.node("ArgMax", y, axis=1)))

    assert models.kinds(model.graph)[-1] == "ArgMax"


def strided(m, x, *, starts=(0, 0), ends=(2**31, 2**31), steps=(2, 3)):
    tables = (starts, ends, (2, 3), steps)
    return m.node("Slice", x, *(m.constant(table, np.int64) for table in tables))


def test_strided_slice_is_a_pool_of_one(models, agree):
    m = models.Maker([1, 3, 7, 7])
    graph = agree(m, m.qdq(strided(m, m.qdq("x", 0.02, 9)), 0.02, 9))

    assert models.kinds(graph) == ["MaxPool"]
    assert (graph.nodes[0].kernel, graph.nodes[0].stride) == ((1, 1), (2, 3))


@pytest.mark.parametrize("wrong", [{"starts": (1, 0)}, {"ends": (3, 9)}, {"steps": (-1, 1)}])
def test_other_slices_are_refused(models, tmp_path, wrong):
    m = models.Maker([1, 3, 7, 7])
    y = m.qdq(strided(m, m.qdq("x", 0.02, 9), **wrong), 0.02, 9)

    with pytest.raises(InputError, match=r"Slice_2 .*only slices x\[:, :, ::n, ::n\]"):
        load_onnx(m.save(tmp_path / "m.onnx", y))


def test_padding_in_front_of_the_first_quantiser(models, agree):
    m = models.Maker([1, 2, 4, 4])
    pads = m.constant([0, 0, 1, 0, 0, 0, 1, 2], np.int64)
    y = m.node("Conv", m.qdq(m.node("Pad", "x", pads), 0.02, 55), m.weight((3, 2, 3, 3)))
    graph = agree(m, m.qdq(y, 0.05, 128))

    assert graph.input_type.zero_point == 55
    assert graph.nodes[0].padding == (1, 0, 1, 2)


def test_padding_that_is_clipped_away_from_zero_is_refused(models, tmp_path):
    m = models.Maker([1, 2, 4, 4])
    y = m.node("Pad", "x", m.constant([0, 0, 1, 0, 0, 0, 1, 2], np.int64))
    y = m.node("Clip", y, m.constant(1, np.float32), m.constant(2, np.float32))

    with pytest.raises(InputError, match=r"Clip_1 .*clips padding"):
        load_onnx(m.save(tmp_path / "m.onnx", m.qdq(y, 0.02)))
