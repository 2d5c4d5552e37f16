"""Folded convolutions and dense layers against the reference; latency; flags; reset."""

import numpy as np
import pytest

from tercet.hw.config import CLAIM_CYCLES
from tercet.hw.configure import Fold, Protection, configure
from tercet.quant import ir, reference

ACT = ir.TensorType(4, False, zero_point=3)
RELU = ir.Requantize(np.array([700]), np.array([12]), ir.TensorType(6, False))
SHIFT = ir.Requantize(np.array([1]), np.array([3]), ir.TensorType(5, True))
PER_CHANNEL = ir.Requantize(
    np.array([300, 9000, 1, 65535, 0, 4000]), np.array([10, 14, 0, 17, 3, 12]),
    ir.TensorType(6, True, zero_point=-5), bound=np.array([9, 31, 0, 4, -5, 20]),
)  # fmt: skip


def dense(requantize=None, features=12, neurons=6, weight_bits=4):
    rng = np.random.default_rng(features + neurons)
    limit = 1 << (weight_bits - 1)
    node = ir.Dense(
        name="fc",
        inputs=("x",),
        weight=rng.integers(-limit, limit, (neurons, features)),
        bias=rng.integers(-40, 40, neurons),
        weight_bits=weight_bits,
        requantize=requantize,
    )
    return ir.Graph("g", "x", (features,), ACT, (node,), "fc")


def convolution(kind=ACT, **fields):
    rng = np.random.default_rng(7)
    groups = fields.get("groups", 1)
    node = ir.Conv2d(
        name="fc",
        inputs=("x",),
        weight=rng.integers(-128, 128, (6, 3, 2, 4 // groups)),
        bias=rng.integers(-400, 400, 6),
        requantize=ir.Requantize(np.array([257]), np.array([14]), ir.TensorType(8, True)),
        **fields,
    )
    return ir.Graph("g", "x", (5, 4, 4), kind, (node,), "fc")


def check(bench, graph, fold, guard=None, *, seed=None, frames=3, **options):
    """Run random frames; the run, after its output was found equal to the reference's."""
    kind = graph.input_type
    shape = (frames, *graph.input_shape)
    x = np.random.default_rng(1).integers(kind.lo, kind.hi + 1, shape)
    layers = configure(graph, {"fc": fold}, {"fc": guard or Protection()})
    run, found = bench.run_network(layers, x, seed=seed, **options)
    assert (found == reference.run(graph, x).reshape(frames, -1)).all()
    return run, layers[0]


@pytest.mark.parametrize("pe", [1, 2, 6])
@pytest.mark.parametrize("simd", [1, 3, 12])
@pytest.mark.parametrize("requantize", [None, RELU, PER_CHANNEL], ids=["raw", "relu", "channels"])
def test_dense_layer_at_every_folding(bench, pe, simd, requantize):
    check(bench, dense(requantize), Fold(pe, simd), seed=pe * simd)


@pytest.mark.parametrize(
    ("fields", "fold"),
    [
        ({}, Fold(3, 4)),
        ({"stride": (2, 2)}, Fold(6, 8)),
        ({"padding": (2, 1, 0, 1)}, Fold(2, 2)),
        ({"dilation": (2, 3)}, Fold(1, 24)),
        ({"groups": 2, "padding": (1, 1, 1, 0)}, Fold(3, 6)),
        ({"padding": (1, 0, 1, 0), "stride": (1, 3)}, Fold(2, 3, "lut")),
    ],
    ids=["plain", "stride", "padding", "dilation", "groups", "lut"],
)
@pytest.mark.parametrize("seed", [None, 5])
def test_convolution(bench, fields, fold, seed):
    check(bench, convolution(**fields), fold, seed=seed)


@pytest.mark.parametrize("multiplier", ["dsp", "lut"])
def test_signed_activations_multiply_signed(bench, multiplier):
    kind = ir.TensorType(5, True, zero_point=-4)

    check(bench, convolution(kind, padding=(1, 1, 1, 1)), Fold(2, 8, multiplier))


def test_extreme_values_do_not_wrap(bench):
    weight = np.full((2, 9), -128)
    node = ir.Dense(name="fc", inputs=("x",), weight=weight, bias=np.array([-1, 1 << 20]))
    graph = ir.Graph("g", "x", (9,), ir.TensorType(8, True), (node,), "fc")
    layers = configure(graph, {"fc": Fold(2, 3)})
    x = np.stack([np.full(9, -128), np.full(9, 127), np.zeros(9, int)])

    _, found = bench.run_network(layers, x)

    assert found.tolist() == reference.run(graph, x).tolist()


def test_weights_of_a_block_ram_take_a_second_rank(bench):
    graph = dense(RELU, features=300, neurons=4, weight_bits=8)

    _, layer = check(bench, graph, Fold(2, 4), frames=2)

    assert layer.block_weights
    assert not check(bench, dense(RELU), Fold(2, 4))[1].block_weights


@pytest.mark.parametrize("requantize", [None, SHIFT, RELU], ids=["raw", "shift", "scale"])
@pytest.mark.parametrize("guard", [Protection(), Protection(3)], ids=["plain", "checksum"])
@pytest.mark.parametrize("fold", [Fold(2, 1), Fold(6, 12), Fold(6, 3)], ids=str)
def test_latency_is_the_sum_of_the_ranks(bench, requantize, guard, fold):
    run, layer = check(bench, dense(requantize), fold, guard)

    groups, steps = layer.groups_per_frame, layer.window.steps
    last_issue = max(layer.window.frame_words, CLAIM_CYCLES) + groups * steps - 1
    behind = layer.pipeline_cycles + layer.commit_cycles + layer.beats - 1
    assert run.last_cycles[0] == last_issue + behind


def test_a_reset_in_mid_frame_starts_afresh(bench):
    for cycles in (5, 23):
        check(bench, convolution(padding=(1, 1, 1, 1)), Fold(3, 8), reset_after=cycles)
        check(bench, dense(RELU), Fold(6, 4), Protection(7, (1,), "parity"), reset_after=cycles)


@pytest.mark.parametrize("beat", [0, 3, 11])
def test_a_flagged_word_flags_its_frame_only(bench, beat):
    run, _ = check(bench, dense(RELU), Fold(2, 1), flag=(1, beat))

    assert run.flagged == [False, True, False]


def test_results_leave_over_several_beats_when_there_is_time(bench):
    run, layer = check(bench, dense(RELU), Fold(6, 1))

    assert (layer.beats, layer.out_lanes) == (6, 1)
    assert np.diff(run.last_cycles).tolist() == [layer.cycles_per_frame] * 2


def flips(bench, registers, graph, guard, frames, wanted, count):
    """Runs with one random upset each in registers that `wanted(signal)` takes, and the truth."""
    layers = configure(graph, {"fc": Fold(2, 3)}, {"fc": guard})
    kind = graph.input_type
    x = np.random.default_rng(2).integers(kind.lo, kind.hi + 1, (frames, *graph.input_shape))
    truth = reference.run(graph, x).reshape(frames, -1)
    rng = np.random.default_rng(3)
    cycles = layers[0].cycles_per_frame
    for _ in range(count):
        registers.clear()

        def draw():
            chosen = [register for register in registers if wanted(register)]
            register = chosen[rng.integers(len(chosen))]
            cycle = int(rng.integers(cycles, 2 * cycles))
            return [bench.Upset(register, int(rng.integers(len(register))), cycle)]

        run, found = bench.run_network(layers, x, upsets=draw, limit=frames * cycles + 200)
        assert run.landed == 1
        yield run, found, truth


def datapath(register):
    return register.attrs["role"] in ("product", "accumulator")


def replica(register):
    return "replica" in register.attrs


def control(register):
    return register.attrs["role"] == "control"


def test_an_upset_of_the_plain_datapath_shows_without_a_flag(bench, registers):
    runs = list(flips(bench, registers, dense(), Protection(), 3, datapath, 12))

    assert any((found != truth).any() for _, found, truth in runs)
    assert not any(any(run.flagged) for run, _, _ in runs)


@pytest.mark.parametrize("modulus", [3, 15])
def test_a_checksum_flags_every_wrong_result_of_the_datapath(bench, registers, modulus):
    wrong = 0
    for run, found, truth in flips(bench, registers, dense(), Protection(modulus), 3, datapath, 20):
        frames = (found != truth).any(axis=1)
        wrong += frames.any()
        assert frames.tolist() == run.flagged
    assert wrong


def test_an_upset_of_a_replica_is_outvoted(bench, registers):
    guard = Protection(None, (0, 1))

    for run, found, truth in flips(bench, registers, dense(), guard, 3, replica, 20):
        assert (found == truth).all()
        assert not any(run.flagged)


def test_checked_control_lets_no_wrong_result_out_unflagged(bench, registers):
    wrong = 0
    for run, found, truth in flips(
        bench, registers, dense(RELU), Protection(3, (), "parity"), 3, control, 40
    ):
        frames = (found != truth).any(axis=1)
        wrong += frames.any()
        flagged = np.array([*run.flagged, *[run.hung] * (len(frames) - len(run.flagged))])
        assert not (frames & ~flagged).any()
    assert wrong
