"""Layers of few bits: bipolar operands and thresholds with drain, checksum, replicas, parity."""

import numpy as np
import pytest

from tercet.hw.configure import Fold, Protection, configure
from tercet.quant import ir, reference
from tercet.sim.expected import random_frames

ACT = ir.TensorType(3, False, zero_point=2)
SIGNED = ir.TensorType(2, True)
BIPOLAR = ir.TensorType(1, True, bipolar=True)
KINDS = {"unsigned": ACT, "signed": SIGNED, "bipolar": BIPOLAR}
WEIGHTS = {"bipolar weights": 1, "3-bit weights": 3}
GUARD = Protection(3, (1, 4), "parity")


def steps(out, rows, reach=12):
    """Thresholds around zero, a row for each neuron or one for all."""
    rng = np.random.default_rng(rows)
    values = np.sort(rng.integers(-reach, reach, (rows, (1 << out.bits) - 1)), axis=1)
    return ir.Thresholds(values, out)


def dense(kind, weight_bits, requantize=None, features=12, neurons=6):
    rng = np.random.default_rng(features + neurons)
    limit = 1 << (weight_bits - 1)
    weight = rng.integers(-limit, limit, (neurons, features))
    node = ir.Dense(
        name="fc", inputs=("x",), weight=2 * weight + 1 if weight_bits == 1 else weight,
        bias=rng.integers(-6, 6, neurons), weight_bits=weight_bits,
        weight_bipolar=weight_bits == 1, requantize=requantize,
    )  # fmt: skip
    return ir.Graph("g", "x", (features,), kind, (node,), "fc")


def check(bench, graph, fold, guard=None, *, seed=None, frames=4):
    """Run random frames; the layer, after its output was found equal to the reference's."""
    layers = configure(graph, {"fc": fold}, {"fc": guard or Protection()})
    x = random_frames(graph, frames, 1)
    run, found = bench.run_network(layers, x, seed=seed)
    assert (found == reference.run(graph, x).reshape(frames, -1)).all()
    return run, layers[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", WEIGHTS)
@pytest.mark.parametrize("fold", [Fold(2, 3), Fold(6, 12), Fold(3, 4, "lut")], ids=str)
def test_products_of_every_pair_of_types(bench, kind, bits, fold):
    graph = dense(KINDS[kind], WEIGHTS[bits])

    check(bench, graph, fold, seed=3)
    check(bench, graph, fold, Protection(7))


@pytest.mark.parametrize("bits", WEIGHTS)
@pytest.mark.parametrize("modulus", [None, 3], ids=["plain", "checksum"])
def test_bipolar_elements_of_an_unrolled_layer(bench, bits, modulus):
    graph = dense(BIPOLAR, WEIGHTS[bits], steps(ir.TensorType(2, False), 6))

    check(bench, graph, Fold(6, 12, "shift"), Protection(modulus))


def test_the_ends_of_signed_operands_have_negatives(bench):
    """-2^(n-1) times -1 needs the bit that a product has beyond its operand."""
    weight = np.array([[-1, -1, 1, -1]])
    node = ir.Dense(
        name="fc", inputs=("x",), weight=weight, bias=np.array([0]), weight_bits=1,
        weight_bipolar=True,
    )  # fmt: skip
    graph = ir.Graph("g", "x", (4,), ir.TensorType(8, True), (node,), "fc")
    x = np.array([[-128, -128, 127, -128], [127, 127, -128, 127]])
    layers = configure(graph, {"fc": Fold(1, 2)})

    _, found = bench.run_network(layers, x)

    assert found.ravel().tolist() == [511, -509]


@pytest.mark.parametrize("rows", [1, 6])
@pytest.mark.parametrize("out", [BIPOLAR, ir.TensorType(2, True), ir.TensorType(4, False)], ids=str)
@pytest.mark.parametrize("fold", [Fold(2, 3), Fold(6, 1), Fold(6, 12)], ids=str)
def test_thresholds_with_and_without_drain(bench, rows, out, fold):
    graph = dense(ACT, 3, steps(out, rows))

    _, layer = check(bench, graph, fold, seed=rows)
    check(bench, graph, fold, GUARD, seed=rows)

    assert (layer.beats > 1) == (fold.simd < 12)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("guard", [Protection(), Protection(3)], ids=["plain", "checksum"])
def test_each_bit_adds_one_cycle_until_the_check_hides_it(bench, bits, guard):
    raw, _ = check(bench, dense(ACT, 3), Fold(6, 12), guard)
    run, layer = check(
        bench, dense(ACT, 3, steps(ir.TensorType(bits, False), 6)), Fold(6, 12), guard
    )

    # A verdict takes two cycles beside the thresholds.
    hidden = 2 if guard.modulus else 0
    assert run.last_cycles[0] - raw.last_cycles[0] == max(0, bits - hidden)
    assert layer.requantize_cycles == bits


def test_bipolar_convolution_and_its_pools(bench):
    rng = np.random.default_rng(4)
    sign = steps(BIPOLAR, 4, 6)
    conv = ir.Conv2d(
        name="c", inputs=("x",), weight=rng.choice([-1, 1], (4, 3, 3, 2)), bias=np.zeros(4, int),
        weight_bits=1, weight_bipolar=True, requantize=sign, dilation=(1, 2),
    )  # fmt: skip
    pool = ir.MaxPool(name="p", inputs=("c",), kernel=(2, 2), stride=(2, 1))
    graph = ir.Graph("g", "x", (6, 7, 2), BIPOLAR, (conv, pool), "p")
    x = random_frames(graph, 3, 0)

    layers = configure(graph, {"c": Fold(2, 6), "p": Fold(4)}, {"c": GUARD})
    _, found = bench.run_network(layers, x, seed=2)

    assert (found == reference.run(graph, x).reshape(3, -1)).all()
    assert set(found.ravel()) == {-1, 1}


def flips(bench, registers, graph, guard, wanted, count):
    """Runs with one random upset each in registers that `wanted(signal)` takes, and the truth."""
    layers = configure(graph, {"fc": Fold(2, 3)}, {"fc": guard})
    x = random_frames(graph, 3, 2)
    truth = reference.run(graph, x).reshape(3, -1)
    rng, cycles = np.random.default_rng(3), layers[0].cycles_per_frame
    for _ in range(count):
        registers.clear()

        def draw():
            chosen = [register for register in registers if wanted(register)]
            register = chosen[rng.integers(len(chosen))]
            cycle = int(rng.integers(cycles, 2 * cycles))
            return [bench.Upset(register, int(rng.integers(len(register))), cycle)]

        run, found = bench.run_network(layers, x, upsets=draw, limit=3 * cycles + 200)
        assert run.landed == 1
        yield run, found, truth


def role(*names):
    return lambda register: register.attrs["role"] in names


@pytest.mark.parametrize("kind", ["signed", "bipolar"])
def test_a_checksum_flags_every_wrong_sum_of_bipolar_products(bench, registers, kind):
    graph, wrong = dense(KINDS[kind], 1), 0
    for run, found, truth in flips(
        bench, registers, graph, Protection(3), role("product", "accumulator"), 20
    ):
        frames = (found != truth).any(axis=1)
        wrong += frames.any()
        assert not (frames & ~np.array(run.flagged)).any()  # the guard bit shows in the flag only
    assert wrong


def test_an_upset_of_a_replica_before_thresholds_is_outvoted(bench, registers):
    graph = dense(BIPOLAR, 1, steps(ir.TensorType(3, True), 6))

    def replica(register):
        return "replica" in register.attrs

    for run, found, truth in flips(bench, registers, graph, Protection(None, (0, 1)), replica, 12):
        assert (found == truth).all()
        assert not any(run.flagged)


def test_an_upset_of_the_search_shows_and_does_not_last(bench, registers):
    graph, wrong = dense(ACT, 3, steps(ir.TensorType(4, False), 6)), 0
    for _, found, truth in flips(bench, registers, graph, Protection(), role("requant"), 12):
        wrong += (found != truth).sum()
        assert (found != truth).sum() <= 1
    assert wrong
