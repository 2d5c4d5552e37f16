"""Every law hits at the rate of its formula, and what it does to a word is its value law."""

import math

import numpy as np
import pytest

from tercet.quant import ir
from tercet.quant.errors import InputError
from tercet.quant.faults import (
    BitBias,
    BitErrors,
    Mibb,
    Op,
    PermanentPe,
    StuckBits,
    StuckCells,
    Tensor,
    draw,
)
from tercet.quant.faults.laws import targets
from tercet.quant.faults.single import single_bits

INT8 = ir.TensorType(8, True)
UINT8 = ir.TensorType(8, False)


def network(channels=64, groups=1, seed=0):
    """8x8x`channels` -> 3x3 convolution of as many channels -> dense layer of ten."""
    rng = np.random.default_rng(seed)
    table = ir.Requantize(np.array([300]), np.array([20]), UINT8, lo=0)
    conv = ir.Conv2d(
        name="conv", inputs=("x",), padding=(1, 1, 1, 1), groups=groups, requantize=table,
        weight=rng.integers(-127, 128, (channels, 3, 3, channels // groups)),
        bias=rng.integers(-999, 999, channels),
    )  # fmt: skip
    flat = ir.Flatten(name="flat", inputs=("conv",))
    dense = ir.Dense(
        name="fc", inputs=("flat",), weight=rng.integers(-127, 128, (10, 64 * channels)),
        bias=rng.integers(-999, 999, 10),
    )  # fmt: skip
    return ir.Graph("laws", "x", (8, 8, channels), INT8, (conv, flat, dense), "fc")


def frames(count):
    return np.zeros(count, np.int64)


def assert_rate(hits, trials, probability):
    """Within five standard deviations: fails by chance once in two million."""
    spread = math.sqrt(trials * probability * (1 - probability))
    assert abs(hits - trials * probability) <= 5 * spread + 1


def named(faults, name):
    """Rows of the records in one layer."""
    return np.flatnonzero(faults.layer == faults.layers.index(name))


@pytest.mark.parametrize("rate", [1e-5, 1e-4, 3e-4])
@pytest.mark.parametrize(("channels", "groups"), [(16, 1), (256, 1), (16, 16)])
def test_mibb_hits_an_element_by_its_number_of_macs(channels, groups, rate):
    graph, count = network(channels, groups), 200 if channels < 100 else 30
    macs = 9 * channels // groups

    faults = draw(Mibb(rate), graph, frames(count), seed=3)

    assert_rate(len(faults.index), count * 64 * channels, 1 - (1 - rate) ** macs)


def test_mibb_adds_every_power_of_two_alike():
    faults = draw(Mibb(1e-4), network(), frames(400), seed=1)

    assert set(faults.tensor) == {Tensor.PREACTIVATION}
    assert set(faults.op) == {Op.ADD}
    count = len(faults.value)
    assert_rate((faults.value > 0).sum(), count, 0.5)
    for bit in range(8):
        assert_rate((np.abs(faults.value) == 1 << bit).sum(), count, 1 / 8)


def test_one_error_in_three_words_is_not_drawn_as_one_in_two():
    """A Bernoulli draw of integers below int(1 / p) would hit half of the words."""
    rate = 1e-4
    p = 1 - (1 - rate) ** (512 * 9)
    assert 1 / int(1 / p) > 0.49
    node = ir.Conv2d(
        name="conv", inputs=("x",), weight=np.ones((4, 3, 3, 512), int), bias=np.zeros(4, int),
        requantize=ir.Requantize(np.array([1]), np.array([8]), INT8),
    )  # fmt: skip
    graph = ir.Graph("wide", "x", (5, 5, 512), INT8, (node,), "conv")

    faults = draw(Mibb(rate), graph, frames(2000), seed=0)

    assert_rate(len(faults.index), 2000 * 36, p)


def test_ibb_grows_with_the_macs_and_strikes_dense_layers_too():
    faults = draw(BitBias(2e-5), network(16), frames(300), seed=2)

    assert_rate(len(named(faults, "conv")), 300 * 64 * 16, 2e-5 * 144)
    assert_rate(len(named(faults, "fc")), 300 * 10, 2e-5 * 1024)


@pytest.mark.parametrize(("groups", "parallel"), [(1, 4), (1, 16), (16, 4)])
def test_a_permanent_fault_counts_how_often_its_element_serves(groups, parallel):
    law, graph = PermanentPe(1e-3, parallel), network(16, groups)
    macs = 9 if groups == 16 else 16 // parallel * 9
    p = 1e-3 if groups == 16 else 1 - (1 - 1e-3) ** parallel
    more = min(7, int(math.log2(macs)))

    faults = draw(law, graph, frames(300), seed=4)

    assert_rate(len(faults.index), 300 * 64 * 16, p * (8 + more) / 8)
    powers = [macs << k if k >= 0 else macs >> -k for k in range(-more, 8)]
    for k, size in zip(range(-more, 8), powers, strict=True):
        alike = powers.count(size)
        assert_rate((faults.value == size).sum(), len(faults.value), alike / 2 / (8 + more)), k
    assert faults.value.min() == -macs << 7
    floor = [-((macs + (1 << -k) - 1) >> -k) for k in range(-more, 0)]
    assert set(floor) <= set(faults.value.tolist())


def test_a_permanent_fault_that_few_inputs_show_is_smaller():
    always = draw(PermanentPe(1e-3, 4), network(16), frames(300), seed=5)
    rarely = draw(PermanentPe(1e-3, 4, input_rate=0.25), network(16), frames(300), seed=5)

    ratio = np.abs(rarely.value).mean() / np.abs(always.value).mean()
    assert 0.2 < ratio < 0.3


def test_a_tile_repeats_over_the_map():
    law, graph = PermanentPe(2e-2, 4, tile=(3, 2, 4)), network(16)

    faults = draw(law, graph, frames(50), seed=6)

    hit = np.zeros((50, 8, 8, 16), bool)
    hit.reshape(50, -1)[faults.experiment, faults.index] = True
    rows, columns, channels = np.ix_(np.arange(8) % 3, np.arange(8) % 2, np.arange(16) % 4)
    for one in hit:
        assert np.array_equal(one, one[:3, :2, :4][rows, columns, channels])
    assert_rate(hit[:, :3, :2, :4].sum(), 50 * 24, law.probability(targets(graph)[1]))


@pytest.mark.parametrize("tensor", [Tensor.WEIGHT, Tensor.BIAS, Tensor.ACTIVATION])
def test_bit_errors_flip_every_stored_bit_alike(tensor):
    graph, count, rate = network(16), 60, 2e-3
    sizes = {t.name: BitErrors(rate, tensor).size(t) for t in targets(graph) if t.name != "flat"
             if tensor == Tensor.ACTIVATION or t.name != "x"}  # fmt: skip

    faults = draw(BitErrors(rate, tensor), graph, frames(count), seed=7)

    assert set(sizes) == {faults.layers[i] for i in np.unique(faults.layer)}
    for name, (words, bits) in sizes.items():
        mask = faults.value[named(faults, name)]
        for bit in range(bits):
            assert_rate(((mask >> bit) & 1).sum(), count * words, rate)
        assert (mask >> bits == 0).all()
        assert (mask > 0).all()


def weights_before_and_after(law, count=40):
    graph = network(16)
    faults = draw(law, graph, frames(count), seed=8)
    before = np.tile(graph.node("conv").weight.ravel(), (count, 1))
    after = before.copy()
    after[faults.experiment, faults.index] = faults.value
    assert set(faults.op) == {Op.PUT}
    assert {faults.layers[i] for i in np.unique(faults.layer)} == {"conv"}
    return before, after


def test_stuck_cells_are_at_zero_and_at_the_largest_weight():
    rate, share = 0.08, 0.163
    before, after = weights_before_and_after(StuckCells())
    largest, one, zero = np.abs(before).max(), rate * share, rate * (1 - share)
    positive = before > 0
    total = positive.sum()
    other = 1 - one  # the other cell's share that does not mask the change

    low = (before > 0) & (before < largest)
    assert_rate(((after == 0) & positive).sum(), total, zero * other + one * one)
    assert_rate(((after == largest) & low).sum(), low.sum(), one * other)
    assert_rate(((after == before - largest) & low).sum(), low.sum(), one * (1 - rate))
    assert_rate((after == -largest)[positive & (before < largest)].sum(), low.sum(), zero * one)
    changed = 1 - (1 - rate) * (1 - one)
    assert_rate((after != before)[low].sum(), low.sum(), changed)
    assert after.min() >= -128
    assert after.max() <= 127


def test_stuck_bits_leave_a_weight_alone_when_no_bit_is_faulty():
    before, after = weights_before_and_after(StuckBits())
    same = (1 - 0.1 * 0.16) ** 7  # the empty cell: no bit at one
    whole = before == 127
    assert_rate((after == 127)[whole].sum(), whole.sum(), (1 - 0.1 * 0.84) ** 7 * same)
    zero = before == 0
    assert_rate((after == 0)[zero].sum(), zero.sum(), (0.016**2 + 0.984**2) ** 7)
    assert after.min() >= -127


@pytest.mark.parametrize("law", [Mibb(1e-3), StuckCells(), StuckBits(), BitErrors(1e-3)])
def test_a_draw_is_repeatable_and_layers_are_independent(law):
    graph = network(16)
    one, other = (draw(law, graph, frames(9), seed=1) for _ in range(2))
    alone = draw(law, graph, frames(9), seed=1, layers=["conv"])

    assert np.array_equal(one.value, other.value)
    assert np.array_equal(one.index, other.index)
    rows = named(one, "conv")
    assert np.array_equal(one.value[rows], alone.value)
    assert not np.array_equal(draw(law, graph, frames(9), seed=2).value, one.value)


def test_layers_without_the_laws_words_are_refused():
    graph = network(16)
    with pytest.raises(InputError, match="flat: the law needs a convolution"):
        draw(Mibb(0.1), graph, frames(1), seed=0, layers=["flat"])
    with pytest.raises(InputError, match="no layer 'nothing'"):
        draw(Mibb(0.1), graph, frames(1), seed=0, layers=["nothing"])
    weight, bias = np.ones((2, 4), int), np.zeros(2, int)
    node = ir.Dense(name="fc", inputs=("x",), weight=weight, bias=bias)
    dense = ir.Graph("d", "x", (4,), INT8, (node,), "fc")
    with pytest.raises(InputError, match="strikes no layer"):
        draw(Mibb(0.1), dense, frames(1), seed=0)
    with pytest.raises(InputError, match=r"rate 1.5 must lie in 0\.\.1"):
        draw(BitErrors(1.5), graph, frames(1), seed=0)


def test_bipolar_weights_have_no_stuck_cells():
    node = ir.Conv2d(name="c", inputs=("x",), weight=np.ones((2, 1, 1, 3), int), weight_bits=1,
                     weight_bipolar=True, bias=np.zeros(2, int))  # fmt: skip
    graph = ir.Graph("b", "x", (2, 2, 3), INT8, (node,), "c")

    with pytest.raises(InputError, match="layer c: a bipolar weight has no cell"):
        draw(StuckCells(), graph, frames(1), seed=0)


@pytest.mark.parametrize("tensor", [t for t in Tensor if t != Tensor.PREACTIVATION])
def test_single_bits_are_uniform_over_layers_words_and_bits(tensor):
    graph, count = network(16), 30_000
    faults = single_bits(graph, frames(count), tensor, seed=0)
    macs = {"conv": 64 * 16 * 144, "fc": 10 * 1024}
    bits = {t.name: t.acc_bits for t in targets(graph)}
    sizes = {
        Tensor.INPUT: (1024 * 8, 1024 * 8),
        Tensor.WEIGHT: (16 * 144 * 8, 10 * 1024 * 8),
        Tensor.BIAS: (16 * bits["conv"], 10 * bits["fc"]),
        Tensor.WEIGHT_READ: (macs["conv"] * 8, macs["fc"] * 8),
        Tensor.INPUT_READ: (macs["conv"] * 8, macs["fc"] * 8),
        Tensor.PRODUCT: (macs["conv"] * 16, macs["fc"] * 17),
        Tensor.ACCUMULATOR: (macs["conv"] * bits["conv"], macs["fc"] * bits["fc"]),
        Tensor.ACTIVATION: (1024 * 8, 10 * 27),
    }[tensor]
    total = sum(sizes) + (1024 * 8 if tensor == Tensor.ACTIVATION else 0)

    assert len(faults) == len(faults.experiment) == count
    if tensor != Tensor.ACTIVATION:
        assert_rate(len(named(faults, "conv")), count, sizes[0] / total)
        assert_rate(len(named(faults, "fc")), count, sizes[1] / total)
    assert (faults.value & (faults.value - 1) == 0).all()
    assert_rate((faults.value == 1).sum(), count, (faults.value == 2).mean())
