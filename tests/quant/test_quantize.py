"""Quantisation against the float network: error bounds, options, refusals."""

import functools
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tercet.quant import execute, ir, reference
from tercet.quant.datasets import digits
from tercet.quant.errors import InputError
from tercet.quant.importers.torch_module import import_torch
from tercet.quant.models.digits import digits_network, odd_input, odd_network, trained
from tercet.quant.quantize import QuantConfig, quantize, quantize_input
from tercet.quant.train import accuracy, predict

SCHEMES = pytest.mark.parametrize("scheme", ["scale", "pow2"])
RANGES = pytest.mark.parametrize("ranges", ["minmax", "percentile", "mse"])


class Wide(nn.Module):
    """Every operator once: residual, concat, pads, pools, flatten, a shared ReLU, hardtanh."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.conv3 = nn.Conv2d(12, 5, (3, 2), stride=(2, 1))
        self.fc1 = nn.Linear(5 * 2 * 3, 7)
        self.fc2 = nn.Linear(7 + 12, 4)

    def forward(self, x):
        x = self.conv1(x)
        y = F.relu(x + self.conv2(F.relu(x)))
        y = torch.cat([F.max_pool2d(y, 3, 1, 1), F.avg_pool2d(y, 3, 1, 1)], 1)
        z = F.hardtanh(self.conv3(y[:, :, :, ::2]), -0.4, 0.5)
        w = F.pad(y, (1, 0, 0, 0)).mean((2, 3))
        u = F.relu(self.fc1(z.flatten(1)))
        return self.fc2(torch.cat([u, w], 1))


@functools.cache
def wide():
    module = Wide()
    return module, import_torch(module, (3, 6, 7))


def normal(shape, count=64, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def snr_db(integers, real):
    """Signal to noise of integers times their best common scale, in dB."""
    integers, real = integers.astype(float).ravel(), real.astype(float).ravel()
    scale = (integers @ real) / (integers @ integers)
    return 10 * np.log10((real @ real) / ((real - scale * integers) ** 2).sum())


def integer_run(graph, x):
    """The reference's output; the torch executor must agree on every tensor."""
    q = quantize_input(graph, x)
    expected = reference.execute(graph, q)
    actual = execute.execute(graph, q)

    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (actual[name] == tensor).all(), name
    return expected[graph.output]


def dequantized(kind, q):
    return (q - kind.zero_point) * kind.scale


@SCHEMES
@RANGES
@pytest.mark.parametrize("asymmetric", [False, True])
def test_every_operator_at_eight_bits(scheme, ranges, asymmetric):
    (module, imported), x = wide(), normal((3, 6, 7))
    config = QuantConfig(scheme=scheme, ranges=ranges, asymmetric=asymmetric)
    graph = quantize(imported, x, config)

    assert snr_db(integer_run(graph, x), predict(module, x)) > (38 if scheme == "scale" else 36)
    assert {type(node) for node in graph} == {
        ir.Conv2d,
        ir.Dense,
        ir.MaxPool,
        ir.AvgPool,
        ir.GlobalAvgPool,
        ir.Add,
        ir.Concat,
        ir.Flatten,
        ir.Pad,
    }


def test_error_shrinks_with_bits():
    (module, graph), x = wide(), normal((3, 6, 7))
    found = [
        snr_db(
            integer_run(quantize(graph, x, QuantConfig(weight_bits=bits, act_bits=bits)), x),
            predict(module, x),
        )
        for bits in (3, 4, 6, 8)
    ]

    assert all(b > a + 3 for a, b in itertools.pairwise(found))


@SCHEMES
def test_every_tensor_is_close_to_its_float_value(scheme):
    """One layer: within one step of the result, apart from rounding the input."""
    torch.manual_seed(3)
    module, x = nn.Sequential(nn.Conv2d(2, 9, 3), nn.ReLU()), normal((2, 6, 6))
    graph = quantize(import_torch(module, (2, 6, 6)), x, QuantConfig(scheme=scheme))
    stored = dequantized(graph.input_type, quantize_input(graph, x)).transpose(0, 3, 1, 2)
    kind = graph.nodes[0].requantize.out
    found = dequantized(kind, integer_run(graph, x)).transpose(0, 3, 1, 2)
    weights = np.abs(module[0].weight.detach().numpy()).max()

    error = np.abs(found - predict(module, stored.astype(np.float32)))
    assert error.max() <= kind.scale / 2 + 18 * np.abs(stored).max() * weights / 127


@pytest.mark.parametrize("seed", range(3))
@SCHEMES
def test_digits_keep_their_accuracy(seed, scheme):
    data = digits()
    module = trained("plain", seed)
    graph = digits_network(seed, QuantConfig(scheme=scheme))
    real = accuracy(predict(module, data.test_x), data.test_y)
    found = accuracy(integer_run(graph, data.test_x), data.test_y)

    assert found >= 0.96
    assert abs(found - real) <= 0.01


def test_odd_network_is_odd_and_accurate():
    data, graph = digits(), odd_network()
    logits = integer_run(graph, odd_input(data.test_x))
    layers = [node for node in graph if isinstance(node, ir.Conv2d | ir.Dense)]

    assert accuracy(logits, data.test_y) > 0.85
    assert graph.input_type.zero_point > 0
    assert {node.weight_bits for node in layers} == {4, 8}
    assert any(node.requantize and node.requantize.out.bits == 4 for node in layers)
    assert any(node.requantize and len(set(node.requantize.multiplier)) > 1 for node in layers)


def test_pow2_shifts_only():
    for node in digits_network(0, QuantConfig(scheme="pow2")):
        if isinstance(node, ir.Conv2d):
            assert (node.requantize.multiplier == 1).all()
            assert np.frexp(node.requantize.out.scale)[0] == 0.5


def test_one_shift_per_layer_and_full_multipliers():
    for node in digits_network():
        if isinstance(node, ir.Conv2d):
            assert len(set(node.requantize.shift)) == 1
            assert node.requantize.multiplier.max() >= 1 << 15


def test_relu_is_the_zero_point_and_relu6_a_clamp():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5), nn.ReLU6(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2))
    x = 100 * normal((4,))
    first, second, last = quantize(import_torch(module, (4,)), x, QuantConfig(act_bits=7))

    assert first.requantize.limits == (0, 127)
    assert first.requantize.out.scale == pytest.approx(6 / 127)
    assert second.requantize.out.zero_point == 0
    assert last.requantize is None


def test_clamp_limits_become_steps():
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.Linear(4, 5), nn.Hardtanh(-0.25, 0.5)), 10 * normal((4,))
    graph = quantize(import_torch(module, (4,)), x, QuantConfig(asymmetric=True))
    table = graph.nodes[0].requantize

    assert table.out.zero_point == 85
    assert table.limits == (0, 255)
    assert quantize(import_torch(module, (4,)), x, QuantConfig()).nodes[0].requantize.limits == (
        -64,
        127,
    )


def test_raw_output_has_one_weight_scale():
    """Accumulators compare only if every neuron has the same step."""
    module = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [0.1, 0.1, 0.1]]))
    node = quantize(import_torch(module, (3,)), normal((3,)), QuantConfig()).nodes[0]

    assert node.weight.tolist() == [[127, 127, 127], [13, 13, 13]]


def test_argmax_reads_raw_accumulators():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(2)
            self.fc = nn.Linear(6, 4)

        def forward(self, x):
            return self.fc(x).argmax(1)

    module, x = Classifier(), normal((6,), 500)
    graph = quantize(import_torch(module, (6,)), x, QuantConfig())
    found = integer_run(graph, x)[:, 0]

    assert graph.nodes[0].requantize is None
    assert (found == predict(module, x)).mean() > 0.97


@SCHEMES
@RANGES
def test_dead_layers_and_constant_data(scheme, ranges):
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
    )
    with torch.no_grad():
        module[0].weight[1:3] = 0.0
        module[0].bias[1] = -1.0
        module[2].weight.zero_()
        module[2].bias.zero_()
    config = QuantConfig(scheme=scheme, ranges=ranges)
    graph = quantize(import_torch(module, (1, 4, 4)), np.zeros((2, 1, 4, 4)), config)
    x = normal((1, 4, 4))
    tensors = reference.execute(graph, quantize_input(graph, x))

    assert (tensors[graph.nodes[0].name][..., 1] == 0).all()
    assert (tensors[graph.nodes[1].name] == 0).all()


def test_channel_that_is_all_bias_keeps_its_value():
    module = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]))
        module[0].bias.copy_(torch.tensor([0.0, 1.75]))
    x = np.abs(normal((3,)))
    graph = quantize(import_torch(module, (3,)), x, QuantConfig())
    scale = graph.nodes[0].requantize.out.scale

    assert integer_run(graph, x)[:, 1] * scale == pytest.approx(1.75, abs=scale)


def test_flatten_permutes_the_next_weights():
    module = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(24, 1, bias=False))
    with torch.no_grad():
        module[2].weight.copy_(torch.arange(24.0).reshape(1, 24) / 23)
    graph = quantize(import_torch(module, (2, 3, 4)), np.ones((1, 2, 3, 4)), QuantConfig())
    weight = graph.nodes[-1].weight[0]
    rounded = np.rint(np.arange(24).reshape(2, 3, 4) / 23 * 127)

    assert (weight == rounded.transpose(1, 2, 0).ravel()).all()


def test_overrides_by_name_path_and_input():
    module = nn.Sequential(nn.Sequential(nn.Linear(4, 5), nn.ReLU()), nn.Linear(5, 2))
    layers = {
        "0.0": {"weight_bits": 3, "act_bits": 5},
        "x": {"act_bits": 4},
        "_1": {"weight_bits": 2},
    }
    float_graph = import_torch(module, (4,))
    layers = {float_graph.input_name if k == "x" else k: v for k, v in layers.items()}
    graph = quantize(float_graph, normal((4,)), QuantConfig(layers=layers))
    first, second = graph

    assert (first.weight_bits, first.requantize.out.bits) == (3, 5)
    assert graph.input_type.bits == 4
    assert second.weight_bits == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": 1}, "weight_bits must be 2..8, not 1"),
        ({"act_bits": 9}, "act_bits must be 2..8"),
        ({"act_bits": 4.0}, "act_bits must be 2..8"),
        ({"scheme": "float"}, "scheme must be scale or pow2"),
        ({"ranges": "kl"}, "ranges must be one of minmax, percentile, mse"),
        ({"percentile": 0.0}, "percentile"),
        ({"m_bits": 7}, "m_bits must be 8..31"),
        ({"layers": {"fc": {"bits": 4}}}, "layer fc: unknown option bits"),
        ({"layers": {"fc": {"weight_bits": 12}}}, "layer fc: weight_bits must be 2..8"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        QuantConfig(**options)


def test_unknown_layer():
    graph = import_torch(nn.Linear(4, 2), (4,))

    with pytest.raises(InputError, match="no layer conv9; layers: "):
        quantize(graph, normal((4,)), QuantConfig(layers={"conv9": {"act_bits": 4}}))


class Order(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return self.head(self, x)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (lambda m, x: x.flatten(1) + m.fc(x.flatten(1)), "order differs"),
        (lambda m, x: x.flatten(1).argmax(1), "argmax of a flattened image"),
    ],
)
def test_orders_that_cannot_be_kept(head, message):
    graph = import_torch(Order(head), (2, 2, 2))

    with pytest.raises(InputError, match=message):
        quantize(graph, normal((2, 2, 2)), QuantConfig())


def test_a_bipolar_input_takes_the_sign():
    kind = ir.TensorType(1, True, bipolar=True, scale=0.5)
    node = ir.ArgMax(name="top", inputs=("x",))
    graph = ir.Graph("g", "x", (4,), kind, (node,), "top")

    assert quantize_input(graph, [[-3.0, -0.1, 0.0, 0.2]]).tolist() == [[-1, -1, 1, 1]]


def test_quantize_input_checks_and_saturates():
    graph = quantize(import_torch(nn.Flatten(), (2, 3, 4)), np.ones((1, 2, 3, 4)), QuantConfig())

    assert (
        quantize_input(graph, np.full((1, 2, 3, 4), 9.0)).tolist()
        == np.full((1, 3, 4, 2), 255).tolist()
    )
    with pytest.raises(InputError, match="shape"):
        quantize_input(graph, np.ones((1, 3, 4, 2)))
    with pytest.raises(InputError, match="NaN"):
        quantize_input(graph, np.full((1, 2, 3, 4), np.nan))
