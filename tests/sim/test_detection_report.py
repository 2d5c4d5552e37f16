"""The histogram of detection latencies."""

import numpy as np

from tercet.sim import detection
from tercet.sim.outcomes import Outcome
from tercet.sim.store import Table


def table(cycles, outcomes):
    zero = np.zeros(len(outcomes), int)
    known = None if cycles is None else np.array(cycles)
    return Table(zero, zero, zero, zero, np.array(outcomes), zero, zero, known)


def test_bins_are_powers_of_two_and_groups_say_what_the_flag_was_worth():
    cycles = [0, 1, 2, 3, 4, 7, 8, -1, 5, 6]
    outcomes = [Outcome.DUE] * 7 + [Outcome.MASKED, Outcome.SDC_CRITICAL, Outcome.FALSE_ALARM]
    found = detection.report(table(cycles, outcomes))

    assert [(row["from"], row["to"]) for row in found["bins"]] == [
        (0, 0),
        (1, 1),
        (2, 3),
        (4, 7),
        (8, 15),
    ]
    assert [row["detected"] for row in found["bins"]] == [1, 1, 2, 2, 1]
    assert [row["late"] for row in found["bins"]] == [0, 0, 0, 1, 0]
    assert [row["false_alarm"] for row in found["bins"]] == [0, 0, 0, 1, 0]
    assert found["flagged"] == 9
    assert (found["median"], found["p99"], found["largest"]) == (3, 8, 8)


def test_large_latencies_fall_into_the_bin_that_holds_them():
    cycles = [(1 << n) + d for n in range(3, 31) for d in (-1, 0, 1)]
    found = detection.report(table(cycles, [Outcome.DUE] * len(cycles)))

    for number, row in enumerate(found["bins"]):
        inside = [c for c in cycles if row["from"] <= c <= row["to"]]
        assert row["detected"] == len(inside), number
    assert sum(row["detected"] for row in found["bins"]) == len(cycles)


def test_nothing_recorded_is_told_from_nothing_flagged():
    assert detection.report(table(None, [Outcome.DUE])) is None
    found = detection.report(table([-1, -1], [Outcome.MASKED, Outcome.HANG]))

    assert found["bins"] == []
    assert found["flagged"] == 0
    assert found["median"] is None
