# amaranth: UnusedElaboratable=no
"""Groups that are computed again: right results after faults, known cycles, no hang."""

import dataclasses
import itertools

import numpy as np
import pytest

from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.linear_config import LinearConfig
from tercet.hw.retry import GroupLog
from tercet.hw.site import Site
from tercet.hw.timing import initiation_interval, recurrence
from tercet.quant import ir, reference
from tercet.quant.errors import InputError
from tercet.sim.expected import random_frames

CONTROL = ("none", "parity", "tmr")


def dense_graph():
    """A dense layer of 4 inputs and 4 neurons."""
    rng = np.random.default_rng(1)
    node = ir.Dense(
        name="fc",
        inputs=("x",),
        weight=rng.integers(-4, 4, (4, 4)),
        bias=rng.integers(-9, 9, 4),
        weight_bits=3,
    )
    return ir.Graph("g", "x", (4,), ir.TensorType(2, False, 1), (node,), "fc")


def dense(fold, **guard):
    """The circuit of `dense_graph`."""
    protection = Protection(**{"modulus": 3, "retry": 1} | guard)
    return configure(dense_graph(), {"fc": fold}, {"fc": protection})[0]


def convolution(fold, **guard):
    """A padded convolution of 4 channels over 5 x 4 pixels."""
    rng = np.random.default_rng(2)
    scale = ir.Requantize(np.array([3000]), np.array([16]), ir.TensorType(6, True))
    node = ir.Conv2d(
        name="c",
        inputs=("x",),
        weight=rng.integers(-8, 8, (4, 3, 3, 2)),
        bias=rng.integers(-50, 50, 4),
        weight_bits=4,
        padding=(1, 1, 1, 1),
        requantize=scale,
    )
    graph = ir.Graph("g", "x", (5, 4, 2), ir.TensorType(4, False), (node,), "c")
    protection = Protection(**{"modulus": 3, "retry": 1} | guard)
    return graph, configure(graph, {"c": fold}, {"c": protection})


def held(registers, *roles):
    return [r for r in registers if r.attrs["role"] in roles]


def accumulator(registers):
    """That of the first lane."""
    return next(r for r in held(registers, "accumulator") if r.name == "acc")


def retry_cycles(layer):
    """By how much a group is late that was computed once more."""
    return 2 * layer.verdict_delay + layer.steps


def some(rng, graph, folding, protection):
    """Checksums with retries in most layers, shared multipliers and votes in time in some."""
    for node in graph:
        if isinstance(node, ir.Conv2d | ir.Dense) and rng.random() < 0.7:
            guard, fold = protection.get(node.name, Protection()), folding[node.name]
            if fold.multiplier == "dsp" and rng.random() < 0.5:
                folding[node.name] = dataclasses.replace(fold, multiplier="dsp2")
            protection[node.name] = dataclasses.replace(
                guard,
                modulus=guard.modulus or 3,
                form="filter",
                retry=int(rng.integers(1, 4)),
                control=str(rng.choice(CONTROL)),
                mode="temporal" if guard.voters == 1 and rng.random() < 0.5 else guard.mode,
            )
    return protection


SEEDS = range(500, 508)
SLOW = [pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[3:]]


@pytest.mark.parametrize("seed", [*SEEDS[:3], *SLOW])
@pytest.mark.parametrize("kind", ["random_network", "random_dag", "broad_network"])
def test_without_faults_a_random_network_is_exact_and_in_time(bench, request, kind, seed):
    rng = np.random.default_rng(seed)
    graph, folding, protection = request.getfixturevalue(kind)(rng)
    guards = some(rng, graph, folding, protection)
    layers = configure(graph, folding, guards)
    x = random_frames(graph, 4, seed)
    expected = reference.run(graph, x).reshape(len(x), -1)

    run, found = bench.run_network(layers, x)
    _, stalled = bench.run_network(layers, x, seed=seed)

    assert (found == expected).all()
    assert (stalled == expected).all()
    times = recurrence(layers, 6)
    assert tuple(run.last_cycles) == times.last_beat_cycles[:4]
    assert times.initiation_interval == initiation_interval(layers)


def test_random_networks_retry_in_every_kind_of_layer(random_network, random_dag, broad_network):
    kinds = (random_network, random_dag, broad_network)
    layers = []
    for seed, kind in itertools.product(SEEDS, kinds):
        rng = np.random.default_rng(seed)
        graph, folding, protection = kind(rng)
        guards = some(rng, graph, folding, protection)
        layers += configure(graph, folding, guards)

    again = [one for one in layers if isinstance(one, LinearConfig) and one.retry]
    assert {one.retry for one in again} == {1, 2, 3}
    assert {one.control for one in again} == set(CONTROL)
    assert {one.op for one in again} == {"Conv2d", "Dense"}
    for what in (
        lambda one: one.pixels > 1,
        lambda one: one.multiplier == "shift",
        lambda one: bool(one.replicated),
        lambda one: bool(one.pairs),
        lambda one: bool(one.repeated),
        lambda one: len(one.turns) > 1,
        lambda one: one.beats > 1,
        lambda one: one.verdict_cycles > 0,
        lambda one: one.window.padded,
    ):
        assert {what(one) for one in again} == {True, False}


EXHAUSTIVE = [
    (Fold(4, 4), "none", 1),
    (Fold(4, 4), "parity", 1),
    (Fold(4, 4), "tmr", 1),
    (Fold(2, 2, "lut"), "none", 3),
    (Fold(1, 4), "none", 2),
]


@pytest.mark.parametrize(("fold", "control", "retry"), EXHAUSTIVE, ids=str)
def test_every_flip_of_product_and_accumulator_is_mended(bench, registers, fold, control, retry):
    """Each bit of each register in each cycle of a frame, far enough apart to be the only one."""
    layer = dense(fold, control=control, retry=retry)
    interval = layer.cycles_per_frame
    period = -(-(retry_cycles(layer) + layer.verdict_delay) // interval) * interval

    def upsets():
        bits = [
            (r, bit) for r in held(registers, "product", "accumulator") for bit in range(len(r))
        ]
        places = enumerate(itertools.product(bits, range(interval)))
        return [bench.Upset(r, bit, n * period + 20 + cycle) for n, ((r, bit), cycle) in places]

    bits = layer.pe * (layer.simd * layer.product_bits + 2 * layer.acc_bits)
    x = np.random.default_rng(0).integers(0, 4, (1, 4)).repeat(bits * period, axis=0)
    run, found = bench.run_network((layer,), x, upsets=upsets, limit=10**6)

    assert run.landed == interval * sum(map(len, held(registers, "product", "accumulator")))
    assert (found == found[0]).all()
    assert not any(run.flagged)
    # Most of them were seen, and made the frames late.
    late = run.last_cycles[-1] - run.last_cycles[0] - interval * (len(x) - 1)
    assert late > 0.1 * run.landed * retry_cycles(layer)


@pytest.mark.parametrize("fold", [Fold(2, 3), Fold(4, 18), Fold(1, 9)], ids=str)
def test_flips_in_a_convolution_are_mended_under_stalls(bench, registers, fold):
    graph, (layer,) = convolution(fold)
    frames = 10 * 3 * retry_cycles(layer) // layer.cycles_per_frame + 4
    x = random_frames(graph, frames, 0)

    def upsets():
        rng = np.random.default_rng(3)
        chosen = held(registers, "product", "accumulator")
        cycles = range(40, 10 * 3 * retry_cycles(layer), 3 * retry_cycles(layer))
        return [
            bench.Upset(r, int(rng.integers(len(r))), cycle)
            for cycle in cycles
            for r in [chosen[rng.integers(len(chosen))]]
        ]

    run, found = bench.run_network((layer,), x, upsets=upsets, seed=4, limit=10**6)

    assert run.landed > 8
    assert (found == reference.run(graph, x).reshape(len(x), -1)).all()
    assert not any(run.flagged)


def test_flips_of_weight_registers_are_mended_where_the_checksum_sees_them(bench, registers):
    layer = dense(Fold(2, 1), modulus=255)
    period = 8 * layer.cycles_per_frame

    def upsets():
        bits = [(r, bit) for r in held(registers, "weight") for bit in range(len(r))]
        places = enumerate(itertools.product(bits, range(layer.cycles_per_frame)))
        return [bench.Upset(r, bit, n * period + 20 + cycle) for n, ((r, bit), cycle) in places]

    x = np.random.default_rng(0).integers(0, 4, (1, 4)).repeat(500, axis=0)
    run, found = bench.run_network((layer,), x, upsets=upsets)

    assert run.landed == 8 * 2 * 3
    assert (found == found[0]).all()
    assert not any(run.flagged)


FLAGS = [
    ("weight", {"weights": "parity"}),
    ("requant", {"post": "dup"}),
    ("accumulator", {"post": "parity"}),
]


@pytest.mark.parametrize(("role", "guard"), FLAGS)
def test_what_a_check_of_a_register_flags_is_mended_as_well(bench, registers, role, guard):
    """Upsets at random; registers behind the requantiser are not the checksum's."""
    graph, (layer,) = convolution(Fold(2, 3), **guard)
    distance = 3 * retry_cycles(layer)
    x = random_frames(graph, 40 * distance // layer.cycles_per_frame + 3, 0)

    def upsets():
        rng, chosen = np.random.default_rng(1), held(registers, role)
        struck = [chosen[rng.integers(len(chosen))] for _ in range(40)]
        cycles = 50 + np.arange(40) * distance + rng.integers(0, 9, 40)
        return [
            bench.Upset(r, int(rng.integers(len(r))), int(cycle))
            for r, cycle in zip(struck, cycles, strict=True)
        ]

    run, found = bench.run_network((layer,), x, upsets=upsets)

    assert run.landed == 40
    assert (found == reference.run(graph, x).reshape(len(x), -1)).all()
    assert not any(run.flagged)
    late = run.last_cycles[-1] - recurrence((layer,), len(x)).last_beat_cycles[-1]
    assert late >= 5 * retry_cycles(layer)


@pytest.mark.parametrize("control", CONTROL)
def test_a_group_is_late_by_the_formula(bench, registers, control):
    graph, (layer,) = convolution(Fold(2, 3), control=control)
    x = random_frames(graph, 1, 0)
    (base,) = recurrence((layer,), 1).last_beat_cycles
    cycle = base // 2

    def upsets():
        return [bench.Upset(accumulator(registers), 2, cycle)]

    run, found = bench.run_network((layer,), x, upsets=upsets)

    assert run.landed == 1
    assert (found == reference.run(graph, x).reshape(1, -1)).all()
    assert run.last_cycles == [base + retry_cycles(layer)]


@pytest.mark.parametrize("retry", [1, 2])
def test_a_fault_during_the_retry_takes_another_or_flags(bench, registers, retry):
    """A second upset at every distance from the first: in the drain, and in the group's replay."""
    layer = dense(Fold(2, 1), retry=retry)
    interval = layer.cycles_per_frame
    period = -(-4 * retry_cycles(layer) // interval) * interval
    distances = range(1, retry_cycles(layer) + 2)

    def upsets():
        acc = accumulator(registers)
        return [
            bench.Upset(acc, 2, n * period + 21 + late)
            for n, distance in enumerate(distances)
            for late in (0, distance)
        ]

    x = np.random.default_rng(0).integers(0, 4, (1, 4)).repeat(12 * len(distances), axis=0)
    run, found = bench.run_network((layer,), x, upsets=upsets)

    assert run.landed == 2 * len(distances)
    wrong = (found != found[0]).any(axis=1)
    assert not (wrong & ~np.array(run.flagged)).any()
    assert any(run.flagged) == (retry == 1)
    assert any(wrong) == (retry == 1)


@pytest.mark.parametrize("control", CONTROL)
@pytest.mark.parametrize("role", ["product", "accumulator", "weight"])
def test_a_permanent_fault_is_flagged_and_nothing_hangs(bench, registers, control, role):
    """A bit that is inverted in every cycle for many frames; then all is as before."""
    layer = dense(Fold(2, 1), modulus=255, retry=2, control=control)
    interval = layer.cycles_per_frame
    first, count = 40, 60 * interval

    def upsets():
        struck = held(registers, role)[-1]
        return [bench.Upset(struck, 1, cycle) for cycle in range(first, first + count)]

    x = np.random.default_rng(0).integers(0, 4, (120, 4))
    run, found = bench.run_network((layer,), x, upsets=upsets)

    assert run.landed == count
    assert not run.hung
    wrong = (found != reference.run(dense_graph(), x)).any(axis=1)
    flagged = np.array(run.flagged)
    assert wrong.sum() > 10  # an error may cancel between the steps of a group
    assert not (wrong & ~flagged).any()
    assert not flagged[-40:].any()
    # Few frames took time for tries that could not help.
    late = run.last_cycles[-1] - run.last_cycles[0] - interval * (len(x) - 1)
    assert late <= 12 * layer.retry * retry_cycles(layer)


def test_after_a_reset_in_mid_retry_all_is_right(bench, registers):
    layer = dense(Fold(2, 1), retry=3)
    x = np.random.default_rng(0).integers(0, 4, (6, 4))
    expected, _ = bench.run_network((layer,), x)
    for before in range(1, retry_cycles(layer) + layer.verdict_delay, 3):
        registers.clear()

        def upsets(before=before):
            acc = accumulator(registers)
            return [bench.Upset(acc, 2, -before)]

        run, _ = bench.run_network((layer,), x, upsets=upsets, reset_after=60)

        assert run.landed == 1
        assert run.data == expected.data
        assert run.last_cycles == expected.last_cycles
        assert not any(run.flagged)


def test_a_retry_without_a_checksum_is_refused():
    with pytest.raises(InputError, match="layer fc: retry = 1 needs a check to fail"):
        dense(Fold(2, 1), modulus=None)


def test_the_log_refuses_a_layer_without_retry():
    with pytest.raises(ValueError, match="retry must be >= 1, not 0"):
        GroupLog(dense(Fold(2, 1), retry=0), Site("fc"))
