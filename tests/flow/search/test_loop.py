"""The search loop on a formula: the same archive however it is run, and bad input."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from tercet.flow.search.archive import load_archive
from tercet.flow.search.crew import Result, _groups, busy_seconds
from tercet.flow.search.loop import run
from tercet.quant.errors import ClaimError, InputError

PROGRAM = Path(__file__).with_name("toy_search.py")


@pytest.fixture(scope="module")
def toy(helper):
    """The module toy_search."""
    return helper("flow/search", "toy_search")


@pytest.fixture
def space(toy, tmp_path):
    return toy.load(tmp_path)


def start(space_file, folder, workers, *words):
    command = [sys.executable, PROGRAM, space_file, folder, str(workers), *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(space_file, folder, workers, *words):
    """Run a search to its end: (exit status, what it said)."""
    process = start(space_file, folder, workers, *words)
    said = process.communicate(timeout=120)[1]
    return process.returncode, said


def generations(folder):
    path = folder / "archive.json"
    return load_archive(folder).generations if path.exists() else 0


class Limits:
    """No network with more LUTs than a constant, known beforehand; intervals known after."""

    def __init__(self, space, evaluate, luts=float("inf"), interval=float("inf")):
        self.space, self.evaluate, self.luts, self.interval = space, evaluate, luts, interval

    def refused(self, encodings):
        found = [self.evaluate(self.space.decode(row))["luts"] for row in encodings]
        return [f"luts, predicted {n:g} > {self.luts}" if n > self.luts else None for n in found]

    def broken(self, objectives):
        value = objectives["initiation_interval"]
        return f"initiation_interval {value:g} is too long" if value > self.interval else None


def test_evaluates_as_many_as_were_asked_for(space, toy):
    archive = run(space, toy.evaluate).archive
    known = {record.number for record in archive.records}

    assert archive.evaluations == len(archive.feasible) == 40
    assert archive.generations == 5
    assert [record.number for record in archive.records] == list(range(40))
    assert all(record.parents == () for record in archive.records[:8])
    assert all(len(record.parents) == 2 for record in archive.records[8:])
    assert all({*record.parents} <= known for record in archive.records)


def test_the_first_generation_sets_the_reference_point(space, toy):
    archive = run(space, toy.evaluate).archive
    worst = max(record.objectives["luts"] for record in archive.records[:8])

    assert archive.reference["luts"] == pytest.approx(1.1 * worst)


def test_a_reference_point_of_the_space_comes_first(space, toy):
    archive = run(replace(space, reference={"luts": 4e4}), toy.evaluate).archive

    assert archive.reference["luts"] == 4e4
    assert archive.reference["error"] < 1


@pytest.mark.parametrize("algorithm", ["nsga2", "nsga3", "random"])
def test_a_search_in_two_runs_finds_what_one_finds(space, toy, tmp_path, algorithm):
    space = replace(space, search=replace(space.search, algorithm=algorithm))
    half = replace(space, search=replace(space.search, evaluations=16))
    run(space, toy.evaluate, tmp_path / "one")
    run(half, toy.evaluate, tmp_path / "two")
    run(space, toy.evaluate, tmp_path / "two", resume=True)

    texts = [(tmp_path / name / "archive.json").read_bytes() for name in ("one", "two")]
    assert texts[0] == texts[1]


def test_killed_and_resumed_with_any_number_of_workers(space, toy, tmp_path):
    """A process killed in the middle of a generation leaves the archive of the last one."""
    file = tmp_path / "space.toml"
    run(space, toy.evaluate, tmp_path / "here")
    process = start(file, tmp_path / "killed", 2, "slow")
    while not 1 <= generations(tmp_path / "killed") < 4:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    kept = generations(tmp_path / "killed")
    resumed = finish(file, tmp_path / "killed", 1, "slow", "resume")

    assert kept < 5
    assert resumed == (0, "")
    texts = [(tmp_path / name / "archive.json").read_bytes() for name in ("here", "killed")]
    assert texts[0] == texts[1]


def test_one_and_two_workers_find_the_same_with_failures(space, tmp_path):
    file = tmp_path / "space.toml"
    for workers in (1, 2):
        assert finish(file, tmp_path / str(workers), workers, "fails") == (0, "")
    texts = [(tmp_path / name / "archive.json").read_bytes() for name in ("1", "2")]
    failures = {one.failure for one in load_archive(tmp_path / "1").records}

    assert texts[0] == texts[1]
    assert failures == {None, "ValueError: no LUT multipliers"}


def test_a_worker_that_dies_ends_the_search(space, tmp_path):
    status, said = finish(tmp_path / "space.toml", tmp_path / "out", 2, "dies")

    assert status == 1
    assert said.startswith("ClaimError: a worker process died with ")
    assert "--resume goes on" in said


def test_failures_count_as_evaluations_and_teach_nothing(space, toy):
    archive = run(space, toy.fails).archive
    failed = [record for record in archive.records if record.failure is not None]

    assert archive.evaluations == 40
    assert 0 < len(failed) < 40
    assert all(record.objectives is None for record in failed)
    assert not {one.number for one in failed} & {
        parent for record in archive.records for parent in record.parents
    }


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"error": 0.5, "luts": 1.0}, "objective initiation_interval is missing"),
        (
            {"error": 0.5, "luts": float("nan"), "initiation_interval": 1},
            "objective luts is nan",
        ),
    ],
)
def test_a_missing_objective_is_a_failure(space, toy, found, reason):
    def evaluate(candidate):
        return found if candidate.interval == 64 else toy.evaluate(candidate)

    failures = {one.failure for one in run(space, evaluate).archive.records}
    assert failures == {None, reason}


def test_when_everything_fails_the_search_ends(space, tmp_path):
    def evaluate(candidate):
        raise InputError("images.npz: gone")

    with pytest.raises(ClaimError, match=r"all 8 evaluations failed; the first: images.npz: gone"):
        run(space, evaluate, tmp_path / "out")

    assert load_archive(tmp_path / "out").evaluations == 8


def test_what_is_not_installed_is_no_failure_of_a_candidate(space):
    def evaluate(candidate):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    with pytest.raises(ModuleNotFoundError):
        run(space, evaluate)


def test_refused_candidates_cost_nothing_and_stay_on_record(space, toy):
    asked = []

    def evaluate(candidate):
        asked.append(candidate)
        return toy.evaluate(candidate)

    archive = run(space, evaluate, limits=Limits(space, toy.evaluate, luts=2000)).archive
    refused = [record for record in archive.records if record.refused is not None]

    assert len(asked) == archive.evaluations == 40
    assert refused
    assert all(one.refused.startswith("luts, predicted ") for one in refused)
    assert all(one.objectives["luts"] <= 2000 for one in archive.feasible)


def test_a_constraint_that_only_the_evaluation_shows(space, toy):
    archive = run(space, toy.evaluate, limits=Limits(space, toy.evaluate, interval=200)).archive
    broken = {record.number for record in archive.records if record.broken is not None}

    assert archive.evaluations == 40
    assert 0 < len(broken) < 40
    assert all(record.objectives is not None for record in archive.records)
    assert not broken & {parent for record in archive.records for parent in record.parents}
    assert len(archive.feasible) == 40 - len(broken)


def test_a_constraint_that_nothing_satisfies_ends_the_search(space, toy):
    says = r"\[constraints\] luts: broken by .* none satisfies all constraints; relax it"

    with pytest.raises(InputError, match=says):
        run(space, toy.evaluate, limits=Limits(space, toy.evaluate, luts=1))


def test_a_small_space_is_searched_to_its_end(toy, tmp_path):
    text = toy.SPACE
    for old, new in (
        ("stages = [1, 2, 3]", "stages = 1"),
        ("width = [4, 8, 12, 16]", "width = 4"),
        ("kernel = [1, 3]", "kernel = 3"),
        ('head = ["flatten", "mean"]', 'head = "mean"'),
        ("weight_bits = [4, 8]", "weight_bits = 4"),
    ):
        text = text.replace(old, new)
    space = toy.load(tmp_path, text)
    archive = run(space, toy.evaluate).archive

    assert space.size == 24
    assert archive.exhausted
    assert archive.evaluations == 24


def test_a_folder_with_an_archive_needs_resume(space, toy, tmp_path):
    run(space, toy.evaluate, tmp_path / "out")

    with pytest.raises(InputError, match="holds the archive of a search; go on with --resume"):
        run(space, toy.evaluate, tmp_path / "out")


def test_another_space_cannot_be_resumed(space, toy, tmp_path):
    run(space, toy.evaluate, tmp_path / "out")
    other = replace(space, target="ecp5-85k")

    with pytest.raises(InputError, match=r"differs in target \(\"ecp5-25k\", not \"ecp5-85k\"\)"):
        run(other, toy.evaluate, tmp_path / "out", resume=True)


def test_what_is_done_is_not_done_again(space, toy, tmp_path):
    run(space, toy.evaluate, tmp_path / "out")
    before = (tmp_path / "out" / "archive.json").read_bytes()

    def evaluate(candidate):
        raise AssertionError("nothing is left to evaluate")

    assert run(space, evaluate, tmp_path / "out", resume=True).archive.evaluations == 40
    assert (tmp_path / "out" / "archive.json").read_bytes() == before


def test_candidates_of_one_network_are_evaluated_in_one_process(space):
    candidates = [space.decode(row) for row in space.sample(np.random.default_rng(0), 6)]
    twins = [replace(one, interval=64) for one in candidates[:3]]

    assert [0, 6] in _groups([*candidates, *twins])
    assert sorted(chain(*_groups([*candidates, *twins]))) == list(range(9))


def test_seconds_of_evaluation_are_counted_once():
    spans = [(0.0, 2.0), (1.0, 3.0), (1.5, 2.0), (10.0, 11.0)]

    assert busy_seconds([Result({}, None, span) for span in spans]) == 4.0
    assert busy_seconds([]) == 0.0
