"""The cycles in which faults strike, and the bits that a reset holds."""

import dataclasses

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.sim.faults import Faults
from tercet.sim.foreign.window import Holds, first_cycle
from tercet.sim.trace import Trace

pytest.importorskip("pyosys")
pytest.importorskip("cocotb")
pytestmark = pytest.mark.verilator


def with_reset(testbed, name, levels):
    """The trace of a testbed, cut to these levels of its reset."""
    trace: Trace = testbed.trace
    first = 0
    for port in trace.inputs:
        if port.name == name:
            break
        first += port.bytes
    stimulus = trace.stimulus[: len(levels)].copy()
    stimulus[:, first] = levels
    return dataclasses.replace(trace, stimulus=stimulus, response=trace.response[: len(levels)])


@pytest.mark.parametrize(
    ("levels", "start"),
    [([0, 0, 1, 1], 2), ([1, 0, 0, 1, 0, 1], 3), ([1, 1, 1], 0)],
)
def test_faults_begin_after_the_first_asynchronous_reset(store, levels, start):
    trace = with_reset(store, "rst_n", levels)

    assert first_cycle(store.source, trace, None, None) == (start, "after the asynchronous reset")
    assert Holds(store.source, trace).first_free == start


def test_a_synchronous_reset_is_known_by_its_name_or_given(chain):
    trace = with_reset(chain, "rst", [1, 1, 0, 0, 1])

    assert first_cycle(chain.source, trace, None, None) == (2, "after reset rst")
    assert first_cycle(chain.source, trace, "rst", None) == (2, "after reset rst")
    assert first_cycle(chain.source, trace, None, 1) == (1, "as given")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((None, 99), "no cycle from 99 on: the bench ends after 5"),
        (("reset", None), "module chain has no input reset; it has: rst, d"),
    ],
)
def test_a_window_that_there_is_not_is_refused(chain, options, message):
    trace = with_reset(chain, "rst", [1, 1, 0, 0, 1])

    with pytest.raises(InputError, match=message):
        first_cycle(chain.source, trace, *options)


def test_a_reset_that_never_ends_leaves_no_window(chain):
    with pytest.raises(InputError, match="no cycle from 3 on"):
        first_cycle(chain.source, with_reset(chain, "rst", [1, 1, 1]), None, None)


def test_faults_do_not_begin_under_an_asynchronous_reset(store):
    trace = with_reset(store, "rst_n", [0, 0, 1, 1])

    with pytest.raises(InputError, match="--from 1: the asynchronous reset holds until cycle 1"):
        first_cycle(store.source, trace, None, 1)


def test_flips_of_held_bits_fall_away_and_stuck_ats_are_interrupted(store):
    trace = with_reset(store, "rst_n", [0, 1, 1, 0, 0, 1])
    holds = Holds(store.source, trace)
    pointer = next(r for r in store.registers if r.name == "wp").bits[0]
    word = next(r for r in store.registers if r.name == "word").bits[0]
    held, free = (store.numbers[bit.cell, bit.index] for bit in (pointer, word))
    flips = Faults.single(np.array([1, 3, 4, 3, 5]), np.array([held, held, held, free, held]))
    one = np.array([1])
    stuck = Faults.stuck(one, np.array([6]), np.array([held]), one)

    left, spans = holds.effective(flips), holds.effective(stuck)

    assert np.diff(left.first).tolist() == [1, 0, 0, 1, 1]
    assert left.start.tolist() == [1, 3, 5]
    assert list(zip(spans.start.tolist(), spans.stop.tolist(), strict=True)) == [(1, 3), (5, 6)]
