"""Frames that slip, are lost or repeated are named; inferences until golden are counted."""

import numpy as np
import pytest

from tercet.sim import recovery
from tercet.sim.outcomes import End, FrameFlag, Observed, Outcome
from tercet.sim.recovery import Disorder, disorder
from tercet.sim.store import Table

#: Outputs of frames 0..9, one beat of one byte; frames 5 and 6 are equal.
GOLDEN = np.array([10, 11, 12, 13, 14, 15, 15, 17, 18, 19], np.uint8).reshape(-1, 1, 1)
LAST = 8


def observed(frames, end=End.BOUND, flags=FrameFlag.WRONG):
    """One experiment that delivered `frames`: {number: value} where it is not golden."""
    number = np.array(list(frames), np.int64)
    words = np.array(list(frames.values()), np.uint8).reshape(-1, 1, 1)
    zero = np.zeros(1, np.uint8)
    rows = np.zeros(len(number), np.int64)
    kinds = np.full(len(number), flags, np.uint8)
    cycles = zero.astype(np.int64)
    return Observed(zero + end, zero, cycles, cycles - 1, rows, number, kinds, words)


def shifted(first, shift, **others):
    rows = {f: int(GOLDEN[f + shift, 0, 0]) for f in range(first, LAST + 1)}
    return {f: v for f, v in rows.items() if v != GOLDEN[f, 0, 0]} | others


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        (shifted(3, 1), Disorder.FRAME_LOST),
        (shifted(3, -1), Disorder.FRAME_REPEATED),
        ({2: 99} | shifted(3, 1), Disorder.FRAME_LOST),  # a wrong frame first
        (shifted(8, 1), Disorder.FRAME_LOST),
        ({3: 14}, Disorder.NONE),  # the next frames are right again
        ({3: 14, 4: 15, 7: 99, 8: 98}, Disorder.NONE),  # and then others are wrong
        ({3: 99}, Disorder.NONE),
        ({}, Disorder.NONE),
    ],
)
def test_outputs_that_are_one_frame_off_to_the_end_are_named(frames, found):
    assert disorder(observed(frames), GOLDEN, np.array([LAST])).tolist() == [found]


def test_a_state_that_is_golden_again_has_not_slipped():
    seen = observed(shifted(3, 1), end=End.GOLDEN)

    assert disorder(seen, GOLDEN, np.array([LAST])).tolist() == [Disorder.NONE]


def test_hangs_and_malformed_frames_are_named():
    bad = observed({3: 12}, end=End.GOLDEN, flags=FrameFlag.WRONG | FrameFlag.MALFORMED)
    hang = observed({}, end=End.HANG)

    assert disorder(bad, GOLDEN, np.array([LAST])).tolist() == [Disorder.TOKEN]
    assert disorder(hang, GOLDEN, np.array([LAST])).tolist() == [Disorder.HANG]


def test_experiments_are_told_apart():
    one, two = observed(shifted(3, 1)), observed({3: 99, 4: 98})
    joined = {
        key: np.concatenate([getattr(one, key), getattr(two, key)])
        for key in ("ends", "events", "end_cycle", "detected", "frame", "flags", "words")
    }
    owner = np.array([0] * len(one.frame) + [1] * len(two.frame))
    found = disorder(Observed(experiment=owner, **joined), GOLDEN, np.array([LAST, LAST]))

    assert found.tolist() == [Disorder.FRAME_LOST, Disorder.NONE]


def test_report_counts_inferences_flags_and_disorder_by_role():
    table = Table(
        site=np.array([0, 0, 1, 1, 1]),
        bit=np.zeros(5, int),
        cycle=np.zeros(5, int),
        input=np.zeros(5, int),
        outcome=np.array([0, Outcome.DUE, Outcome.SDC_CRITICAL, Outcome.DUE, Outcome.HANG]),
        inferences=np.array([0, 2, 1, -1, -1]),
        disorder=np.array([0, 0, Disorder.FRAME_LOST, 0, Disorder.HANG]),
    )
    found = recovery.report(table, ["control", "weight"])

    assert {key: found[key] for key in ("largest", "histogram", "flagged", "never")} == {
        "largest": 2,
        "histogram": [1, 1, 1],
        "flagged": 1,
        "never": 1,
    }
    assert found["by_role"]["control"]["histogram"] == [1, 0, 1]
    assert found["by_role"]["weight"] == {
        "largest": 1,
        "histogram": [0, 1],
        "flagged": 1,
        "never": 1,
    }
    assert found["disorder"] == {
        "lost_or_inserted_token": 0,
        "frame_repeated": 0,
        "frame_lost": 1,
        "hang": 1,
    }
