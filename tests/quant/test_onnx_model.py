"""Which importer a FILE.onnx goes to; whole networks of onnxruntime's quantiser; exactness."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tercet.quant import reference, serialize
from tercet.quant.errors import InputError
from tercet.quant.importers.model_file import load_model
from tercet.quant.importers.onnx_compare import compare
from tercet.quant.importers.onnx_file import read_onnx
from tercet.quant.importers.onnx_model import describe, kind_of, load_onnx
from tercet.quant.importers.torch_module import import_torch
from tercet.quant.quantize import QuantConfig, quantize

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnxruntime import quantization as ortq  # noqa: E402


class Residual(nn.Module):
    """Convolutions, batch norm, a residual Add, depthwise, Concat, both pools, a dense layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.conv3 = nn.Conv2d(12, 8, 1, stride=2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(x + self.conv2(x))
        y = F.max_pool2d(torch.cat([x, y], 1), 2)
        return self.fc(F.relu6(self.conv3(y)).mean((2, 3)))


@pytest.fixture
def models(helper):
    return helper("quant", "onnx_models")


@pytest.fixture(scope="module")
def float_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "float.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Residual().eval(),
            (torch.zeros(1, 2, 8, 8),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )
    return path


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).normal(size=(40, 2, 8, 8)).astype(np.float32)


class Reader(ortq.CalibrationDataReader):
    def __init__(self, frames):
        self.frames = iter([{"x": frame[None]} for frame in frames])

    def get_next(self):
        return next(self.frames, None)


OPTIONS = [
    (ortq.QuantFormat.QDQ, False, ortq.QuantType.QUInt8),
    (ortq.QuantFormat.QDQ, True, ortq.QuantType.QInt8),
    (ortq.QuantFormat.QOperator, True, ortq.QuantType.QUInt8),
    (ortq.QuantFormat.QOperator, False, ortq.QuantType.QInt8),
]


@pytest.mark.parametrize(("form", "per_channel", "kind"), OPTIONS)
def test_network_of_onnxruntimes_quantiser(float_file, frames, tmp_path, form, per_channel, kind):
    path = tmp_path / "q.onnx"
    ortq.quantize_static(
        float_file,
        path,
        Reader(frames),
        quant_format=form,
        per_channel=per_channel,
        activation_type=kind,
        weight_type=ortq.QuantType.QInt8,
    )
    model = load_onnx(path)
    given = model.graph.input_type
    x = np.rint(frames / given.scale).astype(int) + given.zero_point
    x = np.clip(x, given.lo, given.hi).transpose(0, 2, 3, 1)
    layers, end = compare(path, model, x)
    computed = {type(node).__name__ for node in model.graph}

    assert model.kind == form.name
    assert computed == {"Conv2d", "Add", "Concat", "MaxPool", "GlobalAvgPool", "Dense"}
    assert {layer.layer for layer in layers} == {node.name for node in model.graph}
    assert all(layer.share <= 0.002 and layer.largest <= 1 for layer in layers)
    assert end.share <= 0.02


def test_float_file_equals_the_torch_importer(float_file, frames):
    made = load_onnx(float_file, lambda: frames)
    expected = quantize(import_torch(Residual(), (2, 8, 8)), frames, QuantConfig())
    x = np.random.default_rng(1).integers(-127, 128, (8, 8, 8, 2))

    assert (reference.run(made.graph, x) == reference.run(expected, x)).all()
    assert (made.kind, made.exactness, dict(made.traces)) == ("float", (), {})


def test_float_file_through_load_model(float_file, frames, tmp_path):
    data = tmp_path / "x.npz"
    np.savez(data, x=frames)
    config = QuantConfig(weight_bits=4)
    graph = load_model(str(float_file), calibration=data, config=config)

    assert {node.weight_bits for node in graph if hasattr(node, "weight")} == {4}


def test_float_file_needs_calibration(float_file):
    with pytest.raises(InputError, match=r"float\.onnx: a float model needs --calibration"):
        load_onnx(float_file)


def test_quantised_file_takes_no_options(models, tmp_path):
    m, y = models.small_qdq()
    path = m.save(tmp_path / "m.onnx", y)

    with pytest.raises(InputError, match=r"m\.onnx: is quantised already \(QDQ\)"):
        load_model(str(path), config=QuantConfig())


def test_quantised_file_through_load_model(models, tmp_path):
    m, y = models.small_qdq()
    path = m.save(tmp_path / "m.onnx", y)

    assert serialize.digest(load_model(str(path))) == serialize.digest(load_onnx(path).graph)


def test_kinds(models, tmp_path, float_file):
    m, y = models.small_qdq()
    assert kind_of(read_onnx(m.save(tmp_path / "m.onnx", y))) == "QDQ"
    assert kind_of(read_onnx(float_file)) == "float"
    m = models.Maker([1, 4])
    m.opsets["qonnx.custom_op.general"] = 1
    quant = [m.constant(v, np.float32) for v in (0.1, 0, 8)]
    y = m.node("Quant", "x", *quant, domain="qonnx.custom_op.general", signed=1, narrow=0)
    assert kind_of(read_onnx(m.save(tmp_path / "m.onnx", y))) == "QONNX"
    m = models.Maker([1, 4])
    pair = m.scales(0.1)
    x = m.node("QuantizeLinear", "x", *pair)
    y = m.node("QLinearAdd", x, *pair, x, *pair, *pair, domain="com.microsoft")
    assert kind_of(read_onnx(m.save(tmp_path / "m.onnx", y))) == "QOperator"


def test_every_layer_is_stated(models, tmp_path):
    m, y = models.small_qdq()
    model = describe(m.save(tmp_path / "m.onnx", y))
    forms = {item.layer: item.form for item in model.exactness}

    assert forms == {"Conv_3": "rescaled", "MaxPool_7": "integer", "Flatten_8": "integer"} | {
        "Gemm_10": "rescaled"
    }
    assert max(item.share for item in model.exactness) < 0.001


def test_ties_are_stated(models, tmp_path):
    """Half up here, half to even in ONNX: an average of 4 with equal scales ties every 4th time."""
    m = models.Maker([1, 2, 4, 4])
    y = m.node("AveragePool", m.qdq("x", 0.02), kernel_shape=[2, 2], strides=[2, 2])
    model = describe(m.save(tmp_path / "m.onnx", m.qdq(y, 0.02)))
    (stated,) = model.exactness

    assert stated.largest == 1
    assert stated.share == pytest.approx(1 / 8, abs=0.002)


def test_float_file_states_nothing(float_file):
    assert describe(float_file) is None
