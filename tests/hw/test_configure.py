# amaranth: UnusedElaboratable=no
"""From graph, folding and protection to configurations: numbers and errors that name the fix."""

import dataclasses

import numpy as np
import pytest

from tercet.hw.config import LayerConfig
from tercet.hw.configure import Fold, Protection, chain, configure, out_lanes
from tercet.quant import ir, ranges
from tercet.quant.errors import InputError

ACT = ir.TensorType(4, False, zero_point=2)
SCALE = ir.Requantize(np.array([999]), np.array([12]), ir.TensorType(5, False))


def dense(name="fc", source="x", neurons=6, features=12, requantize=None):
    rng = np.random.default_rng(0)
    return ir.Dense(
        name=name, inputs=(source,), weight=rng.integers(-8, 8, (neurons, features)),
        bias=rng.integers(-9, 9, neurons), weight_bits=4, requantize=requantize,
    )  # fmt: skip


def graph(*nodes, shape=(12,), kind=ACT):
    return ir.Graph("g", "x", shape, kind, nodes, nodes[-1].name)


def refused(graph, folding=None, match=""):
    with pytest.raises(InputError, match=match) as error:
        configure(graph, folding or {})
    assert "\n" not in str(error.value)


def test_weights_lie_in_the_order_of_passes_lanes_steps_and_multipliers():
    node = dense()
    (layer,) = configure(graph(node), {"fc": Fold(2, 3)})

    assert layer.weight.shape == (3, 2, 4, 3)
    assert layer.weight[1, 1, 2].tolist() == node.weight[1 * 2 + 1, 6:9].tolist()


def test_the_zero_point_is_folded_into_the_bias():
    node = dense()
    (layer,) = configure(graph(node), {"fc": Fold(2, 3)})

    assert layer.bias.ravel().tolist() == (node.bias - 2 * node.weight.sum(axis=1)).tolist()


def test_the_accumulator_has_the_proven_width_and_a_guard_bit_under_a_checksum():
    network = graph(dense())
    proven = ranges.infer(network)["fc"].raw_bits
    (plain,) = configure(network, {})
    (checked,) = configure(network, {}, {"fc": Protection(3)})

    assert (plain.acc_bits, checked.acc_bits) == (proven, proven + 1)
    assert plain.out_bits == checked.out_bits


def test_protected_neurons_become_protected_lanes():
    (layer,) = configure(
        graph(dense()), {"fc": Fold(3, 1)}, {"fc": Protection(7, (1, 4, 5), "none")}
    )

    assert layer.replicated == (1, 2)
    assert (layer.modulus, layer.checked) == (7, False)
    (layer,) = configure(graph(dense()), {}, {"fc": Protection(control="parity")})
    assert layer.checked


@pytest.mark.parametrize(
    ("pe", "steps", "lanes"), [(1, 1, 1), (4, 1, 4), (4, 2, 4), (4, 3, 2), (6, 4, 2), (6, 100, 1)]
)
def test_results_leave_over_the_fewest_lanes_that_keep_up(pe, steps, lanes):
    assert out_lanes(pe, steps) == lanes
    assert pe // lanes < steps or lanes == pe


def test_layers_of_a_network_in_order():
    rng = np.random.default_rng(1)
    conv = ir.Conv2d(
        name="c", inputs=("x",), weight=rng.integers(-8, 8, (4, 3, 3, 2)), bias=np.arange(4),
        padding=(1, 1, 1, 1), requantize=SCALE,
    )  # fmt: skip
    nodes = (
        conv,
        ir.MaxPool(name="p", inputs=("c",), kernel=(2, 2), stride=(2, 2)),
        ir.Flatten(name="f", inputs=("p",)),
        dense(source="f", features=16),
        ir.ArgMax(name="a", inputs=("fc",)),
    )
    network = graph(*nodes, shape=(4, 4, 2))

    assert [node.name for node in chain(network)] == ["c", "p", "fc", "a"]
    layers = configure(network, {"c": Fold(2, 6), "p": Fold(2)})
    assert [layer.op for layer in layers] == ["Conv2d", "MaxPool", "Dense", "ArgMax"]
    assert [layer.out_shape for layer in layers] == [(4, 4, 4), (2, 2, 4), (6,), (1,)]
    assert layers[0].macs == 16 * 4 * 18
    assert layers[3].out_bits >= 3
    assert layers[3].in_bits == layers[2].out_bits


@pytest.mark.parametrize(
    ("fold", "match"),
    [
        (Fold(4, 1), r"layer fc: pe = 4 does not divide 6 .* choose one of \[1, 2, 3, 6\]"),
        (Fold(1, 5), r"layer fc: simd = 5 does not divide 12 .* \[1, 2, 3, 4, 6, 12\]"),
        (Fold(0, 1), "layer fc: pe = 0"),
        (Fold(1, 1, "tables"), "layer fc: multiplier 'tables' is not dsp or lut"),
    ],
)
def test_a_folding_has_to_fit(fold, match):
    refused(graph(dense()), {"fc": fold}, match)


def test_pe_divides_the_channels_of_a_group():
    node = ir.Conv2d(
        name="c", inputs=("x",), weight=np.ones((4, 1, 1, 1), int), bias=np.zeros(4, int), groups=2
    )

    refused(graph(node, shape=(2, 2, 2)), {"c": Fold(4)}, "layer c: pe = 4 does not divide 2")


def test_pe_divides_the_channels_of_a_pool():
    node = ir.MaxPool(name="p", inputs=("x",), kernel=(1, 1), stride=(1, 1))

    refused(graph(node, shape=(2, 2, 3)), {"p": Fold(2)}, "layer p: pe = 2 does not divide 3")


def test_an_operator_without_a_circuit_is_refused():
    two = ir.Add(name="sum", inputs=("x", "x"), multipliers=(1, 1), shift=0, out=ACT)

    refused(graph(two), match="layer sum: Add has no circuit yet; build chains of Conv2d")


def test_a_branch_is_refused():
    first = dense("a", requantize=SCALE, neurons=12)
    second = dense("b", "a", requantize=SCALE, neurons=12)
    third = ir.Add(name="s", inputs=("a", "b"), multipliers=(1, 1), shift=0, out=ACT)

    refused(graph(first, second, third), match="layer s: Add has no circuit yet")


def test_thresholds_are_refused():
    steps = ir.Thresholds(np.array([[1, 2, 3]]), ir.TensorType(2, False))

    refused(graph(dense(requantize=steps)), match="layer fc: thresholds have no circuit yet")


def test_bipolar_activations_are_refused():
    kind = ir.TensorType(1, True, bipolar=True)

    refused(graph(dense(), kind=kind), match="layer fc: bipolar activations have no circuit yet")


def test_an_average_over_a_varying_count_is_refused():
    node = ir.AvgPool(
        name="p", inputs=("x",), kernel=(2, 2), stride=(1, 1), padding=(1, 0, 0, 0),
        requantize=SCALE, count_include_pad=False,
    )  # fmt: skip
    network = graph(node, shape=(4, 4, 1))

    refused(network, match="layer p: an average over a varying count has no circuit; set count_inc")
    inside = graph(dataclasses.replace(node, padding=(0, 0, 0, 0)), shape=(4, 4, 1))
    assert configure(inside, {})[0].window.steps == 4


def test_a_graph_without_a_circuit_is_refused():
    flat = ir.Flatten(name="f", inputs=("x",))

    refused(graph(flat, shape=(2, 2, 1)), match="the graph has no layer that becomes a circuit")


def test_the_interval_is_the_slowest_of_words_steps_and_beats():
    def interval(fold, features=12):
        (layer,) = configure(graph(dense(features=features), shape=(features,)), {"fc": fold})
        return layer.cycles_per_frame

    assert interval(Fold(1, 12)) == 6  # steps: one a neuron
    assert interval(Fold(6, 2)) == 6  # steps
    assert interval(Fold(6, 12)) == 2  # nothing is faster than two frames' claims
    assert interval(Fold(6, 1)) == 12  # words of one element
    assert issubclass(type(configure(graph(dense()), {})[0]), LayerConfig)
