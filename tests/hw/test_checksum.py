# amaranth: UnusedElaboratable=no
"""Residues for every modulus, the checksum lane, and the proof that no single flip escapes."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator

from tercet.hw.checksum import ChecksumLane
from tercet.hw.config import CHECK_CYCLES, MODULI
from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.residue import residue
from tercet.hw.site import Site
from tercet.hw.timing import recurrence
from tercet.quant import ir, reference
from tercet.quant.errors import InputError


def residues(shapes, modulus, rows):
    """`residue` of the sums of `rows`, values of signals of `shapes`, in the simulator."""
    m = Module()
    values = [Signal(shape, name=f"value_{i}") for i, shape in enumerate(shapes)]
    out = residue(m, [(v, v.shape().signed) for v in values], modulus, "sum")
    found = []

    async def testbench(ctx):
        for row in rows:
            for value, number in zip(values, row, strict=True):
                ctx.set(value, number)
            found.append(ctx.get(out))

    sim = Simulator(m)
    sim.add_testbench(testbench)
    sim.run()
    return found


@pytest.mark.parametrize("modulus", MODULI)
@pytest.mark.parametrize("width", [2, 3, 5, 9])
def test_a_residue_of_every_value(modulus, width):
    for shape, low in ((width, 0), (signed(width), -(1 << (width - 1)))):
        values = range(low, low + (1 << width))

        found = residues([shape], modulus, [(v,) for v in values])

        assert found == [v % modulus for v in values]


@pytest.mark.parametrize("modulus", MODULI)
def test_a_residue_of_every_sum_of_three(modulus):
    rows = list(itertools.product(range(4), range(-4, 4), range(-2, 2)))

    assert residues([2, signed(3), signed(2)], modulus, rows) == [sum(r) % modulus for r in rows]


@pytest.mark.parametrize("modulus", MODULI)
def test_a_residue_of_wide_values(modulus):
    edge = 1 << 30
    rng = np.random.default_rng(modulus)
    rows = [tuple(int(v) for v in rng.integers(-edge, edge, 4)) for _ in range(200)]
    rows += list(itertools.product((-edge, -1, 0, edge - 1), repeat=4))

    assert residues([signed(31)] * 4, modulus, rows) == [sum(row) % modulus for row in rows]


@pytest.mark.parametrize("modulus", MODULI)
def test_no_flip_of_a_bit_keeps_the_residue(modulus):
    """2^k mod 2^r - 1 is a power of two below the modulus: never 0, at any width."""
    width = 10
    for value in range(-(1 << (width - 1)), 1 << (width - 1)):
        for bit in range(width):
            raw = (value ^ 1 << bit) & ((1 << width) - 1)
            flipped = raw - (raw >> (width - 1) << width)
            assert (flipped - value) % modulus


@pytest.mark.parametrize("modulus", [1, 2, 4, 5, 8, 254, None])
def test_other_moduli_are_refused(modulus):
    with pytest.raises(ValueError, match=rf"modulus must be exact or one of .*, not {modulus}"):
        ChecksumLane(layer(modulus), Site("fc"))


TYPE = ir.TensorType(2, False, 1)


def layer(modulus, fold=None, features=4, neurons=4, **guard):
    """A dense layer."""
    rng = np.random.default_rng(1)
    node = ir.Dense(
        name="fc",
        inputs=("x",),
        weight=rng.integers(-4, 4, (neurons, features)),
        bias=rng.integers(-9, 9, neurons),
        weight_bits=3,
    )
    graph = ir.Graph("g", "x", (features,), TYPE, (node,), "fc")
    return configure(graph, {"fc": fold or Fold(2, 2)}, {"fc": Protection(modulus, **guard)})[0]


def datapath(registers):
    return [r for r in registers if r.attrs["role"] in ("product", "accumulator")]


@pytest.mark.parametrize("modulus", [*MODULI, "exact"])
@pytest.mark.parametrize("fold", [Fold(2, 1), Fold(4, 4), Fold(2, 2, "lut")], ids=str)
def test_every_flip_of_product_and_accumulator_is_seen(bench, registers, modulus, fold):
    """Each bit of each register in each cycle of a frame, one upset in every second frame."""
    config = layer(modulus, fold)
    interval = config.cycles_per_frame

    def upsets():
        bits = [(r, bit) for r in datapath(registers) for bit in range(len(r))]
        places = enumerate(itertools.product(bits, range(interval)))
        return [
            bench.Upset(register, bit, (2 * n + 4) * interval + cycle)
            for n, ((register, bit), cycle) in places
        ]

    x = np.random.default_rng(0).integers(0, 4, (1, 4)).repeat(900, axis=0)
    run, found = bench.run_network((config,), x, upsets=upsets)

    wrong = (found != found[0]).any(axis=1)
    # The guard bit of a residue is seen and leaves with no result.
    guards = modulus != "exact"
    guard_bits = guards * sum(-(-len(r) // config.acc_bits) for r in datapath(registers))
    assert run.landed == interval * sum(len(r) for r in datapath(registers))
    assert run.landed < len(x) / 2 - 4
    assert wrong.sum() > run.landed / 4
    flagged = np.array(run.flagged)
    assert not (wrong & ~flagged).any()
    assert flagged.sum() - wrong.sum() <= guard_bits * interval


def test_a_flip_of_the_checksum_lane_itself_changes_no_result(bench, registers):
    config = layer(7, Fold(2, 1))
    interval = config.cycles_per_frame

    def upsets():
        checkers = [r for r in registers if r.attrs["role"] == "checker"]
        return [bench.Upset(r, 0, (3 * n + 4) * interval) for n, r in enumerate(checkers)]

    x = np.random.default_rng(0).integers(0, 4, (1, 4)).repeat(120, axis=0)
    run, found = bench.run_network((config,), x, upsets=upsets)

    assert run.landed > 10
    assert (found == found[0]).all()
    assert any(run.flagged)


def test_the_checksum_lane_costs_no_throughput_and_its_latency_is_known(bench):
    x = np.random.default_rng(0).integers(0, 4, (3, 4))
    plain, checked = layer(None, Fold(4, 4)), layer(255, Fold(4, 4))

    before, _ = bench.run_network((plain,), x)
    after, _ = bench.run_network((checked,), x)

    assert np.diff(before.last_cycles).tolist() == np.diff(after.last_cycles).tolist()
    assert after.last_cycles[0] - before.last_cycles[0] == checked.commit_cycles == CHECK_CYCLES


def convolution(groups=1, neurons=4, size=4, act=TYPE):
    """A 3x3 convolution with padding; `groups` = 4: depthwise."""
    rng = np.random.default_rng(2)
    node = ir.Conv2d(
        name="c", inputs=("x",), weight=rng.integers(-4, 4, (neurons, 3, 3, 4 // groups)),
        bias=rng.integers(-9, 9, neurons), weight_bits=3, padding=(1, 1, 1, 1), groups=groups,
    )  # fmt: skip
    return ir.Graph("g", "x", (size, size, 4), act, (node,), "c")


SHAPES = {
    "conv": (convolution(), Fold(2, 6)),
    "one lane": (convolution(), Fold(1, 36)),
    "wide": (convolution(size=7), Fold(4, 36)),
    "depthwise": (convolution(4), Fold(1, 3)),
    "depthwise side by side": (convolution(4, 8, 6), Fold(4, 9)),
    "grouped": (convolution(2, 8), Fold(2, 3)),
    "shift": (convolution(2, size=8), Fold(4, 18, "shift")),
    "pixels": (convolution(size=10), Fold(4, 36, pixels=2)),
}
"""Foldings that read in different orders: passes of one base, of their own, side by side."""


@pytest.mark.parametrize(
    ("shape", "modulus"),
    [*((shape, 3) for shape in SHAPES), ("conv", 7), ("grouped", 255), ("shift", "exact"),
     ("depthwise side by side", "exact"), ("pixels", 15)],
)  # fmt: skip
def test_the_input_form_is_exact_on_time_and_never_flags_without_a_cause(bench, shape, modulus):
    graph, fold = SHAPES[shape]
    layers = configure(graph, {"c": fold}, {"c": Protection(modulus, form="input")})
    x = np.random.default_rng(0).integers(0, 4, (4, *graph.input_shape))
    expected = reference.run(graph, x).reshape(4, -1)

    run, found = bench.run_network(layers, x)
    _, stalled = bench.run_network(layers, x, seed=3)

    assert layers[0].by_frame
    assert (found == expected).all()
    assert (stalled == expected).all()
    assert tuple(run.last_cycles) == recurrence(layers, 4).last_beat_cycles
    plain = configure(graph, {"c": fold})
    assert recurrence(layers, 6).initiation_interval == recurrence(plain, 6).initiation_interval


@pytest.mark.slow
@pytest.mark.parametrize("modulus", [*MODULI, "exact"])
def test_the_input_form_sees_every_flip_of_product_and_accumulator(bench, registers, modulus):
    """Each bit of each register in each cycle of a frame, one upset in every second frame."""
    rng = np.random.default_rng(2)
    node = ir.Conv2d(
        name="c", inputs=("x",), weight=rng.integers(-4, 4, (2, 2, 2, 1)),
        bias=rng.integers(-9, 9, 2), weight_bits=3,
    )  # fmt: skip
    graph = ir.Graph("g", "x", (4, 4, 1), TYPE, (node,), "c")
    guard = {"c": Protection(modulus, form="input")}
    (config,) = configure(graph, {"c": Fold(2, 2)}, guard)
    interval = config.cycles_per_frame
    frames = 3000
    x = np.random.default_rng(0).integers(0, 4, (1, 4, 4, 1)).repeat(frames, axis=0)

    def upsets():
        bits = [(r, bit) for r in datapath(registers) for bit in range(len(r))]
        places = enumerate(itertools.product(bits, range(interval)))
        return [
            bench.Upset(register, bit, (2 * n + 4) * interval + cycle)
            for n, ((register, bit), cycle) in places
        ]

    run, found = bench.run_network((config,), x, upsets=upsets, limit=2 * frames * interval)

    wrong = (found != found[0]).any(axis=1)
    assert run.landed == interval * sum(len(r) for r in datapath(registers)) < frames / 2 - 4
    assert wrong.sum() > run.landed / 4
    assert not (wrong & ~np.array(run.flagged)).any()


def test_what_the_input_form_cannot_do_is_refused_in_a_line():
    graph, fold = SHAPES["conv"]
    with pytest.raises(InputError, match="layer fc: the input form of its checksum multiplies 16"):
        layer(3, form="input")
    with pytest.raises(InputError, match="knows only at a frame's end; set retry = 0"):
        configure(graph, {"c": fold}, {"c": Protection(3, form="input", retry=1)})


def test_auto_takes_the_filter_form_while_it_repeats_few_multiplications():
    """4 of 16 channels are 25 %; 1 of 8 are 12.5 %; a dense layer has but one window."""

    def form(graph, fold, **guard):
        guards = {"c": Protection(3, form="auto", **guard)}
        return configure(graph, {"c": fold}, guards)[0].form

    assert form(convolution(neurons=4), Fold(2, 6)) == "input"
    assert form(convolution(neurons=8), Fold(2, 6)) == "filter"
    assert form(convolution(4, 8, 6), Fold(4, 9)) == "input"
    assert form(convolution(4, 8, 6), Fold(4, 9), retry=1) == "filter"
    assert layer(3, form="auto").form == "filter"
