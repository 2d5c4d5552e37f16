"""QDQ models, operator by operator, against onnxruntime."""

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


CONVS = [
    {"pads": [1, 1, 1, 1]},
    {"pads": [1, 0, 2, 1], "strides": [2, 1]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"auto_pad": "VALID"},
    {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
    {"group": 2},
    {"group": 4, "pads": [1, 1, 1, 1]},
    {"pads": [4, 4, 4, 4]},
]


@pytest.mark.parametrize("options", CONVS, ids=str)
@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 100), (np.int8, -17)])
@pytest.mark.parametrize("axis", [None, 0])
def test_convolutions(models, agree, options, dtype, zero, axis):
    m = models.Maker([1, 4, 7, 6])
    weight = m.weight((8, 4 // options.get("group", 1), 3, 3), axis, scale=0.004)
    y = m.node("Conv", m.qdq("x", 0.02, zero, dtype), weight, **options)
    graph = agree(m, m.qdq(y, 0.03, zero, dtype))

    assert models.kinds(graph)[-1] == "Conv2d"
    assert len(graph.nodes) == 1 + (options.get("pads") == [4, 4, 4, 4])


def test_bias_has_the_scale_of_the_accumulator(models, agree):
    m = models.Maker([1, 2, 5, 5])
    scales = np.float32(0.02) * np.full(3, 0.01, np.float32)
    y = m.node("Conv", m.qdq("x", 0.02), m.weight((3, 2, 3, 3), scale=0.01), m.bias(scales))
    graph = agree(m, m.qdq(y, 0.05, 90))
    stored = next(c for c in m.constants if c.data_type == models.TensorProto.INT32)

    assert (
        graph.nodes[0].bias.tobytes() == np.frombuffer(stored.raw_data, "i4").astype("i8").tobytes()
    )


def test_float_bias_is_rounded_to_accumulator_steps(models, agree):
    m = models.Maker([1, 2, 5, 5])
    bias = m.constant([0.5, -0.25, 0.125], np.float32)
    y = m.node("Conv", m.qdq("x", 0.02), m.weight((3, 2, 3, 3), scale=0.01), bias)
    graph = agree(m, m.qdq(y, 0.05, 90), share=0.005)

    assert graph.nodes[0].bias.tolist() == [2500, -1250, 625]


@pytest.mark.parametrize("zero", [128, 127])
def test_weight_zero_point_is_folded(models, agree, zero):
    m = models.Maker([1, 6])
    weight = m.weight((5, 6), zero=zero, dtype=np.uint8)
    y = m.node("Gemm", m.qdq("x", 0.02, 3), weight, transB=1)
    graph = agree(m, m.qdq(y, 0.0213, 128))

    assert graph.nodes[0].weight.min() < 0


def test_weight_zero_point_that_does_not_fit_is_refused(models, tmp_path):
    m = models.Maker([1, 6])
    q = m.constant([[255, 0, 1, 2, 3, 4]], np.uint8)
    weight = m.node("DequantizeLinear", q, *m.scales(0.1, 3))
    y = m.qdq(m.node("Gemm", m.qdq("x", 0.02), weight, transB=1), 0.1)

    with pytest.raises(InputError, match=r"Gemm_.*zero point does not fit 8 bits; .*symmetric"):
        load_onnx(m.save(tmp_path / "m.onnx", y))


@pytest.mark.parametrize("form", ["gemm", "gemm transposed", "matmul", "matmul add", "transpose"])
def test_dense(models, agree, form):
    m = models.Maker([1, 3, 4, 5])
    x = m.node("Flatten", m.qdq("x", 0.02, 9))
    bias = m.constant(np.linspace(-1, 1, 7), np.float32)
    if form == "gemm":
        y = m.node("Gemm", x, m.weight((60, 7), 1), bias)
    elif form == "gemm transposed":
        y = m.node("Gemm", x, m.weight((7, 60), 0), bias, transB=1)
    elif form == "transpose":
        y = m.node("MatMul", x, m.node("Transpose", m.weight((7, 60), 0)))
    else:
        y = m.node("MatMul", x, m.weight((60, 7), 1))
    if form == "matmul add":
        y = m.node("Add", y, bias)
    graph = agree(m, m.qdq(m.node("Relu", y), 0.05), share=0.005)

    assert models.kinds(graph) == ["Flatten", "Dense"]


@pytest.mark.parametrize("where", ["before", "after", "both"])
@pytest.mark.parametrize("limits", [(0.0, 6.0), (-0.5, 0.5), (0.0, None)])
def test_clips_join_the_layer(models, agree, where, limits):
    """Between the layer and its QuantizeLinear, or behind that with the same scale."""
    m = models.Maker([1, 2, 5, 5])
    bounds = ["" if v is None else m.constant(v, np.float32) for v in limits]
    y = m.node("Conv", m.qdq("x", 0.02, 128), m.weight((3, 2, 3, 3)))
    if where in ("before", "both"):
        y = m.node("Clip", y, *bounds)
    y = m.qdq(y, 0.05, 100)
    if where in ("after", "both"):
        y = m.qdq(m.node("Clip", y, *bounds), 0.05, 100)
    graph = agree(m, y)
    lo, hi = graph.nodes[0].requantize.limits

    assert models.kinds(graph) == ["Conv2d"]
    assert lo == 100 + limits[0] / 0.05
    assert hi == (255 if limits[1] is None else min(100 + limits[1] / 0.05, 255))


def test_relu_with_another_scale_is_a_layer(models, agree):
    m = models.Maker([1, 2, 4, 4])
    y = m.qdq(m.node("Conv", m.qdq("x", 0.02, 128), m.weight((3, 2, 3, 3))), 0.05, 100)
    graph = agree(m, m.qdq(m.node("Relu", y), 0.031))

    assert models.kinds(graph) == ["Conv2d", "AvgPool"]
    assert graph.nodes[1].kernel == (1, 1)


def test_relu_of_a_tensor_that_is_read_twice_keeps_it(models, agree):
    m = models.Maker([1, 2, 4, 4])
    y = m.qdq(m.node("Conv", m.qdq("x", 0.02, 128), m.weight((3, 2, 3, 3))), 0.05, 100)
    z = m.qdq(m.node("Relu", y), 0.05, 100)
    graph = agree(m, m.qdq(m.node("Add", y, z), 0.09, 60))

    assert models.kinds(graph) == ["Conv2d", "AvgPool", "Add"]
    assert graph.nodes[0].requantize.limits == (0, 255)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 131), (np.int8, 5)])
def test_residual(models, agree, relu, dtype, zero):
    m = models.Maker([1, 3, 6, 6])
    x = m.qdq("x", 0.02, zero, dtype)
    y = m.qdq(m.node("Conv", x, m.weight((3, 3, 3, 3)), pads=[1] * 4), 0.07, zero, dtype)
    y = m.node("Add", x, y)
    graph = agree(m, m.qdq(m.node("Relu", y) if relu else y, 0.061, zero, dtype), share=0.002)

    assert models.kinds(graph) == ["Conv2d", "Add"]
    assert graph.nodes[1].limits[0] == (zero if relu else np.iinfo(dtype).min)


@pytest.mark.parametrize("scales", [(0.0213, 0.0213), (0.0313, 0.0213), (0.0313, 0.0517)])
def test_concat(models, agree, scales):
    m = models.Maker([1, 2, 4, 4])
    x = m.qdq("x", scales[0], 7)
    y = m.qdq(m.node("Conv", x, m.weight((3, 2, 1, 1))), scales[1], 7)
    graph = agree(m, m.qdq(m.node("Concat", x, y, axis=1), 0.0213, 7))
    free = [table is None for table in graph.nodes[1].requantize]

    assert models.kinds(graph) == ["Conv2d", "Concat"]
    assert free == [scale == 0.0213 for scale in scales]


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


def test_batch_norm_behind_a_convolution_is_folded(models, agree):
    m = models.Maker([1, 2, 5, 5])
    tables = [[1.5, -0.5, 0.2], [0.1, 0.2, -0.3], [0.5, -1.0, 0.25], [1.0, 2.0, 0.5]]
    y = m.node("Conv", m.qdq("x", 0.02, 128), m.weight((3, 2, 3, 3), 0))
    y = m.node("BatchNormalization", y, *(m.constant(t, np.float32) for t in tables))
    graph = agree(m, m.qdq(m.node("Relu", y), 0.04), share=0.005)

    assert models.kinds(graph) == ["Conv2d"]


def test_batch_norm_of_a_quantised_image_is_a_depthwise_layer(models, agree):
    m = models.Maker([1, 3, 5, 5])
    tables = [[1.5, -0.5, 0.2], [0.1, 0.2, -0.3], [0.5, -1.0, 0.25], [1.0, 2.0, 0.5]]
    x = m.qdq("x", 0.02, 128)
    y = m.node("BatchNormalization", x, *(m.constant(t, np.float32) for t in tables))
    graph = agree(m, m.qdq(m.node("Relu", y), 0.021), share=0.02)

    assert models.kinds(graph) == ["Conv2d"]
    assert graph.nodes[0].groups == 3


def test_channels_last_input(models, agree):
    """As tf2onnx writes it: transposes at the input and in front of the flatten."""
    m = models.Maker([1, 5, 4, 2])
    x = m.node("Transpose", m.qdq("x", 0.02, 128), perm=[0, 3, 1, 2])
    y = m.qdq(m.node("Conv", x, m.weight((3, 2, 3, 3))), 0.05, 128)
    y = m.node("Transpose", y, perm=[0, 2, 3, 1])
    y = m.node("Reshape", y, m.constant([-1, 18], np.int64))
    y = m.node("Gemm", y, m.weight((4, 18)), transB=1)
    graph = agree(m, m.qdq(y, 0.3, 128))

    assert graph.input_shape == (5, 4, 2)
    assert models.kinds(graph) == ["Conv2d", "Flatten", "Dense"]


def test_output_without_quantisation_is_the_accumulator(models, tmp_path):
    m = models.Maker([1, 6])
    y = m.node("Gemm", m.qdq("x", 0.02, 3), m.weight((5, 6)), transB=1)
    model = load_onnx(m.save(tmp_path / "m.onnx", y))

    assert model.graph.nodes[0].requantize is None
    assert not model.notes


def test_raw_output_gets_one_weight_scale(models, tmp_path):
    m = models.Maker([1, 6])
    y = m.node("Gemm", m.qdq("x", 0.02, 3), m.weight((5, 6), 0), transB=1)
    model = load_onnx(m.save(tmp_path / "m.onnx", y))

    assert model.graph.nodes[0].requantize is None
    assert "rounded again to one scale" in model.notes[0]


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


@pytest.mark.parametrize("opset", [13, 17, 18, 21, 23, 25])
def test_opsets(models, agree, opset):
    """Axes of ReduceMean and Squeeze became operands, QuantizeLinear got attributes."""
    m = models.Maker(["n", 2, 6, 6], opset=opset)
    y = m.node("Conv", m.qdq("x", 0.02, 128), m.weight((4, 2, 3, 3), 0))
    y = m.node("MaxPool", m.qdq(m.node("Relu", y), 0.05), kernel_shape=[2, 2])
    axes = m.constant([2, 3], np.int64)
    if opset < 18:
        y = m.node("ReduceMean", y, axes=[2, 3], keepdims=1)
    else:
        y = m.node("ReduceMean", y, axes, keepdims=1)
    y = m.node("Squeeze", m.qdq(y, 0.031), axes)
    graph = agree(m, m.qdq(m.node("Gemm", y, m.weight((4, 3))), 0.3, 120))

    assert models.kinds(graph) == ["Conv2d", "MaxPool", "GlobalAvgPool", "Dense"]
