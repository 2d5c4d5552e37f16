# amaranth: UnusedElaboratable=no
"""From graph, folding and protection to configurations: numbers and errors that name the fix."""

import dataclasses

import numpy as np
import pytest

from tercet.hw.config import LayerConfig
from tercet.hw.configure import Fold, Protection, circuit_nodes, configure, out_lanes
from tercet.quant import ir, ranges
from tercet.quant.errors import InputError

ACT = ir.TensorType(4, False, zero_point=2)
BIPOLAR = ir.TensorType(1, True, bipolar=True)
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

    assert [node.name for node in circuit_nodes(network)] == ["c", "p", "fc", "a"]
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
        (Fold(1, 1, "tables"), "layer fc: multiplier 'tables' is not dsp, dsp2, lut, shift"),
    ],
)
def test_a_folding_has_to_fit(fold, match):
    refused(graph(dense()), {"fc": fold}, match)


def test_pe_divides_a_group_or_holds_several():
    node = ir.Conv2d(
        name="c", inputs=("x",), weight=np.ones((4, 1, 1, 1), int), bias=np.zeros(4, int), groups=2
    )

    (layer,) = configure(graph(node, shape=(2, 2, 2)), {"c": Fold(4)})
    assert (layer.elements, layer.group_lanes, layer.window.word) == (2, 2, 2)
    assert [layer.lane_elements(lane) for lane in range(4)] == [[0], [0], [1], [1]]
    refused(graph(node, shape=(2, 2, 2)), {"c": Fold(3)}, "layer c: pe = 3 does not divide 4")


def test_groups_side_by_side_read_whole_pixels_of_a_group():
    weight = np.ones((6, 1, 1, 2), int)
    node = ir.Conv2d(name="c", inputs=("x",), weight=weight, bias=np.zeros(6, int), groups=3)
    network = graph(node, shape=(2, 2, 6))

    refused(network, {"c": Fold(6, 1)}, "simd = 1 must be a multiple of 2")
    refused(network, {"c": Fold(3, 2)}, "pe = 3 lanes hold no whole number of groups of 2")


def test_pe_divides_the_channels_of_a_pool():
    node = ir.MaxPool(name="p", inputs=("x",), kernel=(1, 1), stride=(1, 1))

    refused(graph(node, shape=(2, 2, 3)), {"p": Fold(2)}, "layer p: pe = 2 does not divide 3")


def test_pe_divides_the_channels_of_every_operand_of_a_join():
    one = dense("a", requantize=SCALE, neurons=12)
    two = dense("b", "x", requantize=SCALE, neurons=9)
    cat = ir.Concat(name="s", inputs=("a", "b"), requantize=(None, None), out=SCALE.out)

    refused(
        graph(one, two, cat),
        {"s": Fold(2)},
        r"layer s: pe = 2 does not divide 12, 9 .*\[1, 3, 21\]",
    )
    layers = configure(graph(one, two, cat), {"s": Fold(3)})
    assert [layer.sources for layer in layers] == [("",), ("",), ("a", "b")]
    assert layers[2].bounds == (0, 4, 7)


def test_what_the_multipliers_of_a_sum_share_is_not_computed():
    node = ir.Add(name="sum", inputs=("x", "x"), multipliers=(8, 12), shift=5, out=ACT)
    (layer,) = configure(graph(node), {"sum": Fold(2)})

    assert layer.multipliers == (2, 3)
    assert layer.requantize.shift.tolist() == [3]


def test_thresholds_take_a_cycle_for_each_bit():
    steps = ir.Thresholds(np.array([[1, 2, 3]]), ir.TensorType(2, False))
    (layer,) = configure(graph(dense(requantize=steps)), {"fc": Fold(2, 3)})

    assert (layer.requantize_cycles, layer.out_bits, layer.out_signed) == (2, 2, False)
    assert layer.channels(0) == [0, 1, 2, 3, 4, 5]  # a beat a lane
    assert not layer.out_bipolar


@pytest.mark.parametrize(
    ("act_bipolar", "weight_bipolar", "bits", "term"),
    [(False, False, 9, 9), (False, True, 5, 5), (True, False, 5, 5), (True, True, 1, 2)],
)
def test_a_bipolar_operand_adds_no_bit_to_a_product(act_bipolar, weight_bipolar, bits, term):
    node = dense()
    if weight_bipolar:
        weight = np.where(node.weight < 0, -1, 1)
        node = dataclasses.replace(node, weight=weight, weight_bits=1, weight_bipolar=True)
    (layer,) = configure(graph(node, kind=BIPOLAR if act_bipolar else ACT), {"fc": Fold(2, 3)})

    assert layer.multiplies == (not (act_bipolar or weight_bipolar))
    assert (layer.product_bits, layer.term_bits) == (bits, term)
    assert layer.act_bits == (1 if act_bipolar else 4)
    assert set(layer.weight_codes.ravel()) == ({0, 1} if weight_bipolar else set(node.weight.flat))


def test_bipolar_elements_are_one_bit_from_layer_to_layer():
    sign = ir.Thresholds(np.array([[3]]), BIPOLAR)
    nodes = (
        dense("a", requantize=sign, neurons=12), ir.ArgMax(name="top", inputs=("a",)),
    )  # fmt: skip
    layers = configure(graph(*nodes), {})

    assert layers[0].out_bipolar
    assert layers[0].out_bits == layers[1].window.lane_bits == 1
    assert not layers[1].out_bipolar


def average(**fields):
    """A pool of 3 x 3 on 4 x 4 pixels of two channels that leaves the padding out."""
    node = ir.AvgPool(
        name="p", inputs=("x",), kernel=(3, 3), stride=(1, 1), requantize=SCALE,
        count_include_pad=False, **fields,
    )  # fmt: skip
    return configure(graph(node, shape=(4, 4, 2)), {"p": Fold(2)})[0]


def test_an_average_has_a_multiplier_for_each_count():
    layer = average(padding=(1, 1, 0, 2))

    # Rows hold 2 or 3 elements, columns 2, 3, 3, 2 or 1: entries by rows, columns, channels.
    assert layer.window.place_counts == ((2, 3), ((1,), (2,), (3,)))
    assert layer.window.place_bits == (1, 2)
    assert layer.requantize.multiplier[::2].tolist() == [
        (999 * 9 + n // 2) // n for n in (2, 4, 6, 3, 6, 9)
    ]
    # The index is {columns, rows, pass}.
    assert layer.channels(1) == [1, 7, 3, 9, 5, 11, 5, 11]


def test_an_average_that_meets_no_padding_has_one_multiplier():
    layer = average()

    assert layer.window.place_bits == (0, 0)
    assert set(layer.requantize.multiplier) == {999}


def test_multipliers_of_few_elements_may_exceed_their_bits():
    wide = dataclasses.replace(SCALE, multiplier=np.array([65535]))
    node = ir.AvgPool(
        name="p", inputs=("x",), kernel=(3, 3), stride=(1, 1), padding=(2, 2, 2, 2),
        requantize=wide, count_include_pad=False,
    )  # fmt: skip
    (layer,) = configure(graph(node, shape=(4, 4, 1)), {})

    assert layer.requantize.multiplier.max() == 65535 * 9


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
