"""QDQ models, operator by operator, against onnxruntime."""

import functools

import numpy as np
import pytest

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


@pytest.mark.parametrize("shape", [[1, 2, 4, 4], [1, 6]])
def test_clip_of_the_input_is_a_layer(models, agree, shape):
    m = models.Maker(shape)
    graph = agree(m, m.qdq(m.node("Relu", "x"), 0.02, 55))

    assert models.kinds(graph) == ["AvgPool" if len(shape) == 4 else "Concat"]
    assert graph.input_type.zero_point == 55


def test_constants_quantised_in_the_file(models, agree):
    """Weights that the file holds as reals, quantised and dequantised twice."""
    m = models.Maker([1, 6])
    weight = m.qdq(m.constant(m.rng.normal(size=(6, 4)), np.float32), 0.02, 0, np.int8)
    y = m.node("MatMul", m.qdq("x", 0.02, 3), m.qdq(weight, 0.021, 0, np.int8))
    graph = agree(m, m.qdq(y, 0.05, 128))

    assert models.kinds(graph) == ["Dense"]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (["Add"], "adds shapes"),
        (["Mul"], "Mul of two tensors is not supported"),
        (["Concat"], "only tensors of equal rows and columns"),
        (["Relu", "Add"], "not quantised .missing scales"),
    ],
)
def test_refused_joins(models, tmp_path, nodes, message):
    m = models.Maker([1, 2, 4, 4])
    x = m.qdq("x", 0.02, 9)
    other = m.qdq(m.node("MaxPool", x, kernel_shape=[2, 2]), 0.02, 9)
    if nodes[0] == "Relu":
        other = m.node("Relu", x)
    extra = {"axis": 1} if nodes[-1] == "Concat" else {}
    y = m.node(nodes[-1], x, other, **extra)

    with pytest.raises(InputError, match=rf"layer {nodes[-1]}_\d .*{message}"):
        load_onnx(m.save(tmp_path / "m.onnx", m.qdq(y, 0.02)))
