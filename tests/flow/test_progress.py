"""Progress on a terminal: counts, rate, time left; nothing elsewhere."""

import io

import pytest

from tercet.flow import progress
from tercet.flow.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def shown(stream):
    return stream.getvalue().split("\r")[-1].strip()


def test_rate_and_time_left_are_those_of_the_work_done_now(clock):
    stream = Terminal()
    tell = Progress(stream=stream)
    tell("upsets", 40_000, 100_000)  # resumed: these were done before
    assert shown(stream) == "upsets 40000 of 100000"
    clock[0] += 4
    tell("upsets", 50_000, 100_000)

    assert shown(stream) == "upsets 50000 of 100000, 2,500/s, 20 s left"


@pytest.mark.parametrize(
    ("rate", "text"), [(100, "10 min 0 s left"), (10, "1 h 40 min left"), (0.5, "33 h 20 min left")]
)
def test_time_left_in_two_units(clock, rate, text):
    stream = Terminal()
    tell = Progress(stream=stream)
    tell("upsets", 0, 60_000 + int(10 * rate))
    clock[0] += 10
    tell("upsets", int(10 * rate), 60_000 + int(10 * rate))

    assert shown(stream).endswith(text)


def test_another_task_begins_anew(clock):
    stream = Terminal()
    tell = Progress(stream=stream)
    tell("upsets", 0, 10)
    clock[0] += 9
    tell("auditing", 5, 10)

    assert shown(stream) == "auditing 5 of 10"


def test_a_file_stays_clean():
    stream = io.StringIO()
    with Progress(stream=stream) as tell:
        tell("upsets", 1, 2)

    assert stream.getvalue() == ""
