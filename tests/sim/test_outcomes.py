"""Each outcome class, from hand-made observations."""

import numpy as np
import pytest

from tercet.sim.manifest import Stream
from tercet.sim.outcomes import (
    End,
    FrameFlag,
    Observed,
    Outcome,
    classify,
    frame_outcomes,
    judge,
    top1,
)

SINK = Stream("v", "r", "d", "f", "l", "e", 1, 8, True, 3, (3,))
GOLDEN = SINK.pack(np.array([[5, 9, -3], [7, 7, 0]]))

WRONG, MALFORMED = FrameFlag.WRONG, FrameFlag.MALFORMED
FLAGGED, ERR = FrameFlag.FLAGGED, FrameFlag.ERR


def observe(rows, ends=(End.GOLDEN,), events=None):
    """`rows`: (experiment, frame, flags, values)."""
    experiment, frame, flags = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    words = SINK.pack(np.array([row[3] for row in rows]).reshape(-1, 3))
    events = np.zeros(len(ends), np.uint8) if events is None else np.array(events, np.uint8)
    return Observed(
        ends=np.array(ends, np.uint8),
        events=events,
        end_cycle=np.zeros(len(ends), np.int64),
        detected=np.full(len(ends), -1),
        experiment=experiment,
        frame=frame,
        flags=flags.astype(np.uint8),
        words=words,
    )


def one(flags, values, frame=0, **options):
    (outcome,) = classify(observe([(0, frame, flags, values)], **options), GOLDEN, SINK)
    return Outcome(outcome)


@pytest.mark.parametrize(
    ("flags", "values", "expected"),
    [
        (WRONG, [5, 8, -3], Outcome.SDC_TOLERABLE),
        (WRONG, [9, 9, -3], Outcome.SDC_CRITICAL),
        (WRONG | MALFORMED, [5, 9, -3], Outcome.SDC_CRITICAL),
        (WRONG | MALFORMED | FLAGGED | ERR, [5, 9, -3], Outcome.DUE),
        (WRONG | FLAGGED | ERR, [9, 0, 0], Outcome.DUE),
        (WRONG | ERR, [9, 0, 0], Outcome.SDC_CRITICAL),
        (FLAGGED | ERR, [5, 9, -3], Outcome.FALSE_ALARM),
    ],
)
def test_one_frame(flags, values, expected):
    assert one(flags, values) is expected


def test_ties_go_to_the_lowest_index():
    assert top1(np.array([[7, 7, 0], [1, 7, 7]])).tolist() == [0, 1]
    assert one(WRONG, [7, 8, 0], frame=1) is Outcome.SDC_CRITICAL
    assert one(WRONG, [7, 6, 0], frame=1) is Outcome.SDC_TOLERABLE


def test_an_output_of_one_element_is_the_class_itself():
    assert top1(np.array([[3], [0]])).tolist() == [3, 0]


def test_nothing_seen_is_masked_or_latent():
    assert classify(observe([], [End.GOLDEN, End.BOUND]), GOLDEN, SINK).tolist() == [
        Outcome.MASKED,
        Outcome.LATENT,
    ]


def test_a_hang_outranks_every_frame():
    assert one(WRONG, [9, 9, -3], ends=[End.HANG]) is Outcome.HANG


def test_the_worst_inference_counts():
    rows = [
        (0, 0, WRONG | FLAGGED | ERR, [9, 0, 0]),
        (0, 1, WRONG, [7, 6, 0]),
        (1, 0, WRONG, [5, 8, -3]),
        (1, 1, WRONG, [0, 8, 0]),
        (2, 0, FLAGGED | ERR, [5, 9, -3]),
        (2, 1, WRONG | FLAGGED | ERR, [0, 8, 0]),
    ]

    assert classify(observe(rows, [End.GOLDEN] * 3), GOLDEN, SINK).tolist() == [
        Outcome.SDC_TOLERABLE,
        Outcome.SDC_CRITICAL,
        Outcome.DUE,
    ]


def test_a_flagged_frame_of_another_class_is_critical_as_well():
    rows = [
        (0, 0, WRONG | FLAGGED | ERR, [9, 0, 0]),
        (1, 0, WRONG | FLAGGED | ERR, [5, 8, -3]),
        (1, 1, WRONG, [7, 6, 0]),
        (2, 0, WRONG | MALFORMED | FLAGGED | ERR, [5, 9, -3]),
        (3, 0, WRONG, [9, 0, 0]),
        (4, 0, FLAGGED | ERR, [5, 9, -3]),
    ]
    outcome, critical = judge(observe(rows, [End.GOLDEN] * 5), GOLDEN, SINK)

    assert critical.tolist() == [1, 0, 1, 1, 0]
    assert outcome[0] == outcome[2] == Outcome.DUE
    assert outcome[1] == Outcome.SDC_TOLERABLE


def test_counted_corrections_and_retries_are_told_from_masked():
    ends, events = [End.GOLDEN] * 3, [0, 1, 2]

    assert classify(observe([], ends, events), GOLDEN, SINK).tolist() == [
        Outcome.MASKED,
        Outcome.RECOVERED,
        Outcome.CORRECTED,
    ]


def test_a_flag_with_a_retry_and_a_right_result_is_recovered():
    observed = observe([(0, 0, FLAGGED | ERR, [5, 9, -3])], events=[1])

    assert frame_outcomes(observed, GOLDEN, SINK).tolist() == [Outcome.RECOVERED]


def test_labels_are_those_of_the_report():
    assert [outcome.label for outcome in sorted(Outcome, reverse=True)] == [
        "hang",
        "sdc_critical",
        "sdc_tolerable",
        "due",
        "recovered",
        "corrected",
        "false_alarm",
        "latent",
        "masked",
    ]
