"""QOperator models, operator by operator, against onnxruntime."""

import functools

import numpy as np
import pytest

from tercet.quant import ir
from tercet.quant.importers.onnx_model import load_onnx

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MS = "com.microsoft"


@pytest.fixture
def models(helper):
    return helper("quant", "onnx_models")


@pytest.fixture
def agree(models, tmp_path):
    """agree(maker, output, share=0): the graph, checked against onnxruntime layer by layer."""
    return functools.partial(models.agree, tmp_path / "m.onnx")


def operands(m, shape, axis=None):
    """Integers, scale and zero point of a weight."""
    q = m.constant(m.rng.integers(-127, 128, shape), np.int8)
    if axis is None:
        return q, *m.scales(0.01, 0, np.int8)
    scale = m.rng.uniform(0.005, 0.02, shape[axis])
    return q, *m.scales(scale, np.zeros(shape[axis], int), np.int8)


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 120), (np.int8, -9)])
def test_qlinear_conv(models, agree, axis, dtype, zero):
    m = models.Maker([1, 2, 6, 6])
    here, there = m.scales(0.02, zero, dtype), m.scales(0.05, zero, dtype)
    weight = operands(m, (4, 2, 3, 3), axis)
    bias = m.constant(m.rng.integers(-900, 900, 4), np.int32)
    x = m.node("QuantizeLinear", "x", *here)
    y = m.node("QLinearConv", x, *here, *weight, *there, bias, pads=[1] * 4)
    graph = agree(m, m.node("DequantizeLinear", y, *there))

    assert models.kinds(graph) == ["Conv2d"]


def test_qlinear_matmul(models, agree):
    m = models.Maker([1, 9])
    here, there = m.scales(0.02, 120), m.scales(0.05, 128)
    weight = operands(m, (9, 4))
    x = m.node("QuantizeLinear", "x", *here)
    y = m.node("QLinearMatMul", x, *here, *weight, *there)
    graph = agree(m, m.node("DequantizeLinear", y, *there))

    assert models.kinds(graph) == ["Dense"]


@pytest.mark.parametrize("real", [False, True])
def test_qgemm(models, agree, tmp_path, real):
    m = models.Maker([1, 9])
    here, there = m.scales(0.02, 120), m.scales(0.05, 128)
    weight = operands(m, (4, 9))
    x = m.node("QuantizeLinear", "x", *here)
    bias = m.constant(m.rng.integers(-900, 900, 4), np.int32)
    last = () if real else there
    y = m.node("QGemm", x, *here, *weight, bias, *last, domain=MS, transB=1)
    if real:
        graph = load_onnx(m.save(tmp_path / "m.onnx", y)).graph
    else:
        graph = agree(m, m.node("DequantizeLinear", y, *there))

    assert models.kinds(graph) == ["Dense"]
    assert (graph.nodes[0].requantize is None) == real


def test_qlinear_add_concat_and_pools(models, agree):
    m = models.Maker([1, 3, 6, 6])
    a, b, c = m.scales(0.0203, 120), m.scales(0.0307, 99), m.scales(0.0511, 7)
    d, e = m.scales(0.0401, 1), m.scales(0.0113, 5)
    x = m.node("QuantizeLinear", "x", *a)
    weight = operands(m, (3, 3, 1, 1))
    y = m.node("QLinearConv", x, *a, *weight, *b)
    z = m.node("QLinearAdd", x, *a, y, *b, *c, domain=MS)
    z = m.node("QLinearConcat", *d, y, *b, z, *c, domain=MS, axis=1)
    z = m.node("MaxPool", z, kernel_shape=[2, 2], strides=[1, 1])
    z = m.node("QLinearAveragePool", z, *d, *e, domain=MS, kernel_shape=[2, 2], strides=[2, 2])
    z = m.node("QLinearGlobalAveragePool", z, *e, *d, domain=MS)
    z = m.node("Flatten", z)
    graph = agree(m, m.node("DequantizeLinear", z, *d), share=0.01)

    wanted = ["Conv2d", "Add", "Concat", "MaxPool", "AvgPool", "GlobalAvgPool"]
    assert models.kinds(graph) == wanted


def test_qlinear_add_of_a_constant_joins_the_layer(models, tmp_path):
    m = models.Maker([1, 9])
    here, there = m.scales(0.02, 120), m.scales(0.05, 128)
    weight = operands(m, (9, 4))
    x = m.node("QuantizeLinear", "x", *here)
    y = m.node("QLinearMatMul", x, *here, *weight, *there)
    offset = m.constant([1, 2, 3, 4], np.uint8)
    y = m.node("QLinearAdd", y, *there, offset, *m.scales(0.5, 0), *there, domain=MS)
    model = load_onnx(m.save(tmp_path / "m.onnx", m.node("DequantizeLinear", y, *there)))

    assert models.kinds(model.graph) == ["Dense"]
    assert "rounds twice" in model.exactness[0].note
    assert (np.diff(model.graph.nodes[0].bias) > 0).all()


def test_integer_input(models, tmp_path):
    m = models.Maker([1, 2, 4, 4], dtype=models.TensorProto.UINT8)
    y = m.node("DequantizeLinear", "x", *m.scales(0.1, 3))
    y = m.qdq(m.node("Conv", y, m.weight((2, 2, 1, 1))), 0.3, 9)
    model = load_onnx(m.save(tmp_path / "m.onnx", y))

    assert model.graph.input_type == ir.TensorType(8, False, 3, scale=float(np.float32(0.1)))
