"""Campaigns on designs that are not ours: replay and bench agree, every upset shows that must."""

import dataclasses

import numpy as np
import pytest

from tercet.quant.errors import ClaimError, InputError
from tercet.sim.faults import PERMANENT, Faults
from tercet.sim.foreign import experiments
from tercet.sim.foreign.testbed import ForeignTestbed
from tercet.sim.outcomes import Outcome
from tercet.sim.trace import Replayed, Verdict

pytest.importorskip("pyosys")
pytest.importorskip("cocotb")
pytestmark = pytest.mark.verilator


def singles(testbed, count, seed=0, targets=None):
    rng = np.random.default_rng(seed)
    chosen = np.arange(testbed.space.size) if targets is None else targets
    return Faults.single(rng.integers(*testbed.window, count), rng.choice(chosen, count))


def silent(outcome):
    """Masked and latent as one: they differ in no output."""
    return np.where(outcome == Outcome.LATENT, Outcome.MASKED, outcome)


@pytest.mark.parametrize("name", ["store", "smooth"])
def test_replay_and_bench_agree_on_every_fault(name, request):
    testbed = request.getfixturevalue(name)
    faults = singles(testbed, 60)

    fast, slow = (testbed.run(engine, faults).outcome for engine in ("native", "cocotb"))

    assert np.unique(fast).size > 3
    np.testing.assert_array_equal(silent(fast), slow)


@pytest.mark.slow
def test_replay_and_bench_agree_on_every_bit_of_odd_verilog(odd):
    bits = np.arange(odd.space.size)
    cycles = np.random.default_rng(1).integers(*odd.window, len(bits))
    faults = Faults.single(cycles, bits)

    fast, slow = (odd.run(engine, faults).outcome for engine in ("native", "cocotb"))

    assert {m.name: m.bits for m in odd.space.memories} == {"two": 64, "wm": 800}
    assert (fast == Outcome.SDC_TOLERABLE).any()
    np.testing.assert_array_equal(silent(fast), slow)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("smooth", "chain", "odd")]


@pytest.mark.parametrize("name", ["store", *SLOW])
def test_native_and_bit_parallel_replays_are_the_same(name, request):
    testbed = request.getfixturevalue(name)
    faults = testbed.holds.effective(singles(testbed, 200_000))
    faults = faults.take(np.flatnonzero(np.diff(faults.first) > 0))

    native, lanes = (testbed._replay.run(e, faults, 1) for e in ("native", "bitparallel"))

    np.testing.assert_array_equal(native.verdict, lanes.verdict)
    np.testing.assert_array_equal(native.end_cycle, lanes.end_cycle)


def test_every_upset_shows_where_every_bit_is_compared(chain):
    outcome = chain.run("native", singles(chain, 100)).outcome

    assert (outcome == Outcome.SDC_CRITICAL).all()


def test_the_flag_makes_a_failure_detected_and_a_success_a_false_alarm(store):
    memory = np.arange(store.space.ff_bits, store.space.size)
    outcome = store.run("native", singles(store, 60, 1, memory)).outcome

    assert (outcome == Outcome.DUE).any()
    assert not (outcome == Outcome.HANG).any()
    err = store.numbers[next(r for r in store.registers if r.name == "err").bits[0].cell, 0]
    raised = Faults.single(np.array([store.window[1] - 2]), np.array([err]))
    assert store.run("native", raised).outcome[0] == Outcome.FALSE_ALARM


def test_a_bench_that_waits_for_ever_is_a_hang(smooth):
    register = next(r for r in smooth.registers if r.name == "state")
    bits = np.array([smooth.numbers[bit.cell, bit.index] for bit in register.bits])
    cycles = np.arange(*smooth.window)
    faults = Faults.single(np.repeat(cycles, len(bits)), np.tile(bits, len(cycles)))

    outcome = smooth.run("native", faults).outcome

    assert (outcome == Outcome.HANG).any()


def test_a_small_error_that_the_bench_accepts_is_tolerable(smooth):
    low = next(r for r in smooth.registers if r.name == "sum").bits[0]
    target = np.full(30, smooth.numbers[low.cell, low.index])
    outcome = smooth.run("native", singles(smooth, 30, 2, target)).outcome

    assert (outcome == Outcome.SDC_TOLERABLE).any()
    assert not (outcome == Outcome.SDC_CRITICAL).any()


def test_several_flips_and_stuck_ats_agree_too(store):
    rng = np.random.default_rng(5)
    bits = rng.choice(store.space.size, (20, 2))
    start = rng.integers(*store.window, 20)
    double = Faults.flips(start, np.arange(0, 42, 2), bits.ravel())
    stuck = Faults.stuck(start, np.full(20, PERMANENT), bits[:, 0], rng.integers(0, 2, 20))

    for faults in (double, stuck):
        fast, slow = (store.run(engine, faults).outcome for engine in ("native", "cocotb"))
        np.testing.assert_array_equal(silent(fast), slow)
        assert (fast != Outcome.MASKED).any()


def test_an_upset_under_an_asynchronous_reset_is_masked(store):
    # The second test of the bench resets the design again.
    held = np.flatnonzero(~store.trace.bit("rst_n", 0)[store.window[0] :]) + store.window[0]
    hash_ = next(r for r in store.registers if r.name == "out_data").bits[0]
    target = np.full(len(held), store.numbers[hash_.cell, hash_.index])

    assert len(held)
    for engine in ("native", "cocotb"):
        outcome = store.run(engine, Faults.single(held, target)).outcome
        assert (outcome == Outcome.MASKED).all()


def test_result_does_not_depend_on_workers(store):
    faults = singles(store, 40, 3)
    one, two = (store.run("native", faults, workers=n) for n in (1, 2))

    np.testing.assert_array_equal(one.outcome, two.outcome)
    np.testing.assert_array_equal(one.inferences, two.inferences)


def test_progress_counts_every_experiment(store):
    told = []
    store.run("native", singles(store, 40, 4), progress=told.append)

    assert sum(told) == 40


def test_sites_without_attributes_are_told_apart_by_register_and_instance(smooth):
    layers = {register.layer for register in smooth.registers}

    assert "smooth" in layers
    assert any(layer.startswith("lanes[") for layer in layers)
    assert {register.role for register in smooth.registers} >= {"state", "sum", "y"}


@pytest.mark.slow
def test_words_of_an_array_are_one_role(odd):
    words = [r.role for r in odd.registers if r.name.startswith("sml[")]

    assert words == ["sml"] * 4


def test_a_testbed_opens_again_from_its_recipe(chain):
    again = ForeignTestbed.reopen(chain.origin["testbed"])

    assert again.origin == chain.origin


def test_an_unknown_engine_is_refused(chain):
    with pytest.raises(InputError, match="engine must be one of native, bitparallel, cocotb"):
        chain.run("none", singles(chain, 1))


def test_a_replay_that_sees_what_the_bench_does_not_is_a_broken_claim(store, monkeypatch):
    wrong = Replayed(np.array([Verdict.VISIBLE], np.uint8), np.array([store.window[0]]))
    monkeypatch.setattr(store._replay, "run", lambda *_: wrong)
    word = next(r for r in store.registers if r.name == "word").bits[0]
    unseen = Faults.single(np.array([store.window[0]]), np.array([store.numbers[word.cell, 0]]))

    with pytest.raises(ClaimError, match="differs in cycle"):
        store.run("native", unseen)


def test_a_register_that_cannot_be_reached_is_named(chain):
    register = chain.registers[0]
    strange = dataclasses.replace(register.bits[0], path=("x",))
    lost = dataclasses.replace(register, bits=(strange, *register.bits[1:]))
    design = dataclasses.replace(chain.source.design, registers=(lost,))
    bench = dataclasses.replace(
        chain.bench, source=dataclasses.replace(chain.source, design=design)
    )

    with pytest.raises(InputError, match=r"register chain\.x cannot be reached"):
        experiments.play(bench, chain.trace, singles(chain, 1))


def test_a_bench_that_runs_differently_is_a_broken_claim(chain):
    other = chain.trace.response.copy()
    other[2] ^= 1
    trace = dataclasses.replace(chain.trace, response=other)
    late = Faults.single(np.array([20]), np.array([0]))

    with pytest.raises(ClaimError, match="without a fault the bench ran differently"):
        experiments.play(chain.bench, trace, late)
