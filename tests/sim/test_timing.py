"""What a bench measured held against the manifest: the interval is that of settled frames."""

from types import SimpleNamespace

import pytest

from tercet.sim.timing import judge

MANIFEST = SimpleNamespace(
    latency_cycles=332,
    initiation_interval=128,
    spacings=(128, 129),
    last_beat_cycles=(332, 472, 601),
)


def outcome(*ends):
    made = SimpleNamespace(starts=[2], output=SimpleNamespace(ends=[2 + end for end in ends]))
    made.report = lambda: {"report": []}
    return made


def test_the_interval_is_that_after_the_frames_have_settled():
    right, detail = judge(MANIFEST, outcome(332, 472, 601, 729, 857, 985))

    assert right
    assert detail["initiation_interval"] == 128
    assert detail["spacings"] == [128, 129]


@pytest.mark.parametrize(
    ("ends", "differs"),
    [
        ((332, 472, 601, 729, 857, 986), ["initiation_interval"]),
        ((332, 472, 600, 728, 856, 984), ["spacings", "last_beat_cycles"]),
        ((333, 472, 601, 729, 857, 985), ["latency_cycles", "last_beat_cycles"]),
    ],
)
def test_a_cycle_more_or_less_is_reported(ends, differs):
    right, detail = judge(MANIFEST, outcome(*ends))

    assert not right
    assert [line.split(":")[0] for line in detail["report"]] == differs
