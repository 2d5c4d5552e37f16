"""Float ONNX models: the float graph against onnxruntime, operator by operator."""

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.quant.float_graph import execute
from tercet.quant.importers.onnx_file import read_onnx
from tercet.quant.importers.onnx_float import import_float
from tercet.quant.quantize import QuantConfig, quantize

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def models(helper):
    return helper("quant", "onnx_models")


@pytest.fixture
def agree(tmp_path):
    """agree(maker, output) -> the float graph, after its results equal onnxruntime's."""

    def check(maker, output):
        path = maker.save(tmp_path / "m.onnx", output)
        graph, _ = import_float(read_onnx(path))
        shape = [axis.dim_value or 1 for axis in maker.input.type.tensor_type.shape.dim]
        x = np.random.default_rng(3).normal(size=(6, *shape[1:])).astype(np.float32)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        theirs = np.concatenate([session.run(None, {"x": frame[None]})[0] for frame in x])
        last = x.transpose(0, 3, 1, 2) if shape[1:] != list(graph.input_shape) else x
        ours = execute(graph, last)[graph.output]

        assert np.allclose(ours.reshape(theirs.shape), theirs, atol=1e-4, rtol=1e-4)
        quantize(graph, last, QuantConfig())
        return graph

    return check


def kinds(graph):
    return [type(node).__name__ for node in graph]


def normal(m, *shape):
    return m.constant(m.rng.normal(size=shape), np.float32)


WINDOWS = [
    ("Conv", {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("Conv", {"dilations": [2, 1], "pads": [2, 1, 2, 1], "group": 2}),
    ("Conv", {"pads": [3, 3, 3, 3]}),
    ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 1, 0, 0]}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1, "pads": [1] * 4}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1] * 4}),
    ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("GlobalAveragePool", {}),
    ("GlobalMaxPool", {}),
    ("ReduceMean", {"axes": [2, 3], "keepdims": 1}),
]


@pytest.mark.parametrize(("op", "options"), WINDOWS, ids=str)
def test_windows(models, agree, op, options):
    m = models.Maker(["n", 4, 7, 6])
    operands = [normal(m, 6, 4 // options.get("group", 1), 3, 3), normal(m, 6)]
    y = m.node(op, "x", *(operands if op == "Conv" else ()), **options)
    graph = agree(m, m.node("Flatten", y))

    assert len(graph.nodes) <= 3


def test_batch_norm_and_relu_join_the_convolution(models, agree):
    m = models.Maker(["n", 3, 5, 5])
    y = m.node("Conv", "x", normal(m, 4, 3, 3, 3))
    tables = [normal(m, 4), normal(m, 4), normal(m, 4), m.constant([1, 2, 3, 4], np.float32)]
    y = m.node("Relu", m.node("BatchNormalization", y, *tables))
    graph = agree(m, m.node("Flatten", y))

    assert kinds(graph) == ["Conv", "Flatten"]
    assert graph.nodes[0].lo == 0.0


def test_scalings_and_offsets_by_constants(models, agree):
    m = models.Maker(["n", 3, 5, 5])
    y = m.node("Sub", "x", m.constant(0.5, np.float32))
    y = m.node("Div", y, normal(m, 3, 1, 1))
    y = m.node("Conv", m.node("Mul", normal(m, 1, 3, 1, 1), y), normal(m, 4, 3, 3, 3))
    graph = agree(m, m.node("Add", y, normal(m, 4, 1, 1)))

    assert kinds(graph) == ["Conv"]


def test_residual_concat_and_clip(models, agree):
    m = models.Maker(["n", 3, 5, 5])
    y = m.node("Conv", "x", normal(m, 3, 3, 3, 3), pads=[1] * 4)
    y = m.node("Clip", y, m.constant(-0.5, np.float32), m.constant(1, np.float32))
    y = m.node("Concat", m.node("Add", "x", y), y, axis=1)
    graph = agree(m, m.node("Gemm", m.node("Flatten", y), normal(m, 150, 4), normal(m, 4)))

    assert kinds(graph) == ["Conv", "Sum", "Concat", "Flatten", "Dense"]


def test_view_with_a_computed_shape(models, agree):
    """x.view(x.size(0), -1), as exporters write it."""
    m = models.Maker(["n", 3, 4, 4])
    size = m.node("Gather", m.node("Shape", "x"), m.constant(0, np.int64), axis=0)
    size = m.node("Unsqueeze", size, m.constant([0], np.int64))
    target = m.node("Concat", size, m.constant([-1], np.int64), axis=0)
    y = m.node("MatMul", m.node("Reshape", "x", target), normal(m, 48, 5))
    graph = agree(m, m.node("Add", y, normal(m, 5)))

    assert kinds(graph) == ["Flatten", "Dense"]


def test_channels_last_input_and_flatten(models, agree):
    m = models.Maker([1, 4, 5, 3])
    y = m.node("Conv", m.node("Transpose", "x", perm=[0, 3, 1, 2]), normal(m, 2, 3, 3, 3))
    y = m.node("Reshape", m.node("Transpose", y, perm=[0, 2, 3, 1]), m.constant([1, -1], np.int64))
    graph = agree(m, m.node("MatMul", y, normal(m, 12, 5)))

    assert graph.input_shape == (3, 4, 5)


def test_opset_9_attributes(models, agree):
    """Limits, pads and axes are attributes in old files."""
    m = models.Maker(["n", 2, 4, 4], opset=9)
    y = m.node("Pad", "x", pads=[0, 0, 1, 0, 0, 0, 1, 2], mode="constant", value=0.0)
    y = m.node("Clip", m.node("Conv", y, normal(m, 3, 2, 3, 3)), min=-1.0, max=1.0)
    y = m.node("ReduceMean", y, axes=[2, 3], keepdims=1)
    graph = agree(m, m.node("Squeeze", y, axes=[2, 3]))

    assert kinds(graph) == ["Conv", "GlobalAvgPool"]


def test_dropout_identity_and_argmax(models, agree):
    m = models.Maker(["n", 6])
    y = m.node("Identity", m.node("Dropout", "x", outputs=2))
    y = m.node("Gemm", y, normal(m, 6, 4), alpha=0.5, beta=2.0)
    graph = agree(m, m.node("ArgMax", y, axis=1))

    assert kinds(graph) == ["Dense", "ArgMax"]


def test_softmax_is_left_out_with_a_note(models, tmp_path):
    m = models.Maker(["n", 6])
    y = m.node("Softmax", m.node("MatMul", "x", normal(m, 6, 4)))
    graph, notes = import_float(read_onnx(m.save(tmp_path / "m.onnx", y)))

    assert kinds(graph) == ["Dense"]
    (note,) = notes
    assert note.startswith("layer Softmax_1 (Softmax): left out; the output holds the logits")


REFUSED = [
    ("Conv", {"auto_pad": "SOMEHOW"}, "auto_pad SOMEHOW"),
    ("Conv", {"strides": [0, 1]}, "strides must lie in 1.."),
    ("Conv", {"strides": [1]}, "strides must be 2 integers"),
    ("Conv", {"strides": "1"}, "strides must be 2 integers"),
    ("Conv", {"kernel_shape": [2, 2]}, "differs from its weight's"),
    ("Conv", {"group": 5}, "does not fit 4 channels"),
    ("Conv", {"dilations": [9, 9]}, "larger than its padded operand"),
    ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2]}, "dilation is not supported"),
    ("ReduceMean", {"axes": [1]}, "only over rows and columns"),
    ("ReduceMean", {"axes": [7]}, "do not exist"),
    ("ReduceMean", {"axes": ["a"]}, "attribute axes must hold integers"),
    ("Transpose", {"perm": [0, 2, 1, 3]}, "channels first <-> channels last"),
    ("Flatten", {"axis": 2}, "only axis 1 keeps the batch"),
    ("Flatten", {"axis": 1.5}, "attribute axis must be a int"),
    ("Pad", {"mode": "reflect"}, "only constant zero"),
    ("ArgMax", {"axis": 1}, "over the features of a vector only"),
    ("Gemm", {}, "put a Flatten before"),
    ("Sign", {}, "not supported in a model of this kind"),
]


@pytest.mark.parametrize(("op", "options", "message"), REFUSED, ids=str)
def test_refused(models, tmp_path, op, options, message):
    m = models.Maker(["n", 4, 7, 6])
    operands = {
        "Conv": [normal(m, 6, 4, 3, 3)],
        "Gemm": [normal(m, 6, 3)],
        "Pad": [m.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)],
    }
    y = m.node(op, "x", *operands.get(op, []), **options)

    with pytest.raises(InputError, match=rf"layer {op}_0 \({op}\): .*{message}"):
        import_float(read_onnx(m.save(tmp_path / "m.onnx", y)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_must_be_finite(models, tmp_path, value):
    m = models.Maker(["n", 2])
    y = m.node("MatMul", "x", m.constant([[value], [1]], np.float32))

    with pytest.raises(InputError, match=r"MatMul_0 .*weight holds NaN or infinity"):
        import_float(read_onnx(m.save(tmp_path / "m.onnx", y)))


def test_network_without_layers(models, tmp_path):
    m = models.Maker(["n", 2])

    with pytest.raises(InputError, match="does not depend on its input"):
        import_float(read_onnx(m.save(tmp_path / "m.onnx", m.node("Identity", "x"))))


def test_a_shape_must_hold_integers(models, tmp_path):
    m = models.Maker(["n", 2])
    y = m.node("Reshape", "x", m.constant([np.nan, 2], np.float32))

    with pytest.raises(InputError, match=r"Reshape_0 .*shape is float32; it must hold integers"):
        import_float(read_onnx(m.save(tmp_path / "m.onnx", y)))
