"""`tercet harden` on the small network: what it writes, what it refuses."""

import json

import numpy as np
import pytest

from tercet.flow.builder import build_design
from tercet.flow.cli import main
from tercet.flow.design import prepare
from tercet.flow.folding import load_folding
from tercet.flow.harden.source import inputs
from tercet.flow.harden.toml_text import toml_text
from tercet.flow.plan import Plan
from tercet.flow.plan_file import load_plan, parse_plan
from tercet.quant import serialize
from tercet.quant.errors import InputError


@pytest.fixture
def small(helper):
    return helper("flow", "small")


@pytest.fixture
def model(small, tmp_path):
    """graph.json and inputs.npz of the small network."""
    serialize.save(small.graph(), tmp_path / "graph.json")
    np.savez(tmp_path / "inputs.npz", x=small.frames(96))
    return tmp_path


def harden(model, *options):
    source = [str(model / "graph.json"), "--calibration", str(model / "inputs.npz")]
    return main(["harden", *source, "-o", str(model / "out"), *options])


@pytest.fixture
def no_tools(monkeypatch):
    """Nothing is built: a refusal has to come before."""

    def refuse(*_, **__):
        raise AssertionError("it began to build")

    monkeypatch.setattr("tercet.flow.harden.bench.build_design", refuse)


@pytest.mark.slow
@pytest.mark.verilator
def test_a_plan_within_the_budget_is_chosen_built_and_measured(model, small, capsys):
    assert harden(model, "--budget", "12%", "--faults", "4000", "--explain", "--json") == 0

    result = json.loads(capsys.readouterr().out)
    out = model / "out"
    plan = load_plan(out / "plan.toml")
    folding = load_folding(out / "fold.toml", small.graph())
    again = prepare(serialize.load(model / "graph.json"), folding, plan)
    manifest = json.loads((out / "design" / "manifest.json").read_text())
    assert 0 < result["measured"]["overhead"] <= 0.12
    assert result["measured"]["ratio"]["value"] < 1
    assert parse_plan(result["plan"], "front.json") == plan
    assert parse_plan(manifest["plan"], "manifest.json") == plan != Plan()
    assert manifest["initiation_interval"] == again.timing().initiation_interval
    assert result == json.loads((out / "front.json").read_text())
    assert any(row["chosen"] for row in result["explain"])
    assert result["inputs"] == {"scores": 32, "profile": 32, "evaluation": 32}


class Bench:
    """Builds nothing: every plan costs 20 % and leaves 0.03 to 0.05."""

    def __init__(self, source, out, *_):
        self.out = out

    def build_plain(self):
        (self.out / "plain").mkdir(exist_ok=True)

    def build(self, plan):
        self.plan = plan

    def overhead(self):
        return {"overhead": 0.2, "area": 120.0, "plain_area": 100.0}

    def ratio(self):
        outcomes = {"sdc_critical": 4, "masked": 96}
        found = {"outcomes": outcomes, "plain_outcomes": outcomes, "experiments": 100, "inputs": 20}
        ratio = {"value": 0.04, "low": 0.03, "high": 0.05, "confidence": 0.95}
        return found | {"ratio": ratio}


@pytest.fixture
def measured(monkeypatch, model, small):
    """A build directory of the small network, and measurements that are known."""
    monkeypatch.setattr("tercet.flow.harden.command.Bench", Bench)
    build_design(prepare(small.graph(), small.FOLDING), model / "own", frames=small.frames(60))
    return model


def harden_directory(model, *options):
    return main(["harden", str(model / "own"), "-o", str(model / "out"), "--estimate", *options])


def test_a_ratio_out_of_reach_is_a_failed_claim(measured, capsys):
    assert harden_directory(measured, "--target-ratio", "0.01") == 1

    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert (
        "--target-ratio 0.01: the lowest ratio reached is 0.0400 (95% limit 0.0500) at +20.0% area"
        in printed.err
    )
    assert "resilience estimate" in printed.out
    assert load_plan(measured / "out" / "plan.toml") != Plan()


def test_a_ratio_within_reach_is_met_by_its_limit(measured, capsys):
    assert harden_directory(measured, "--target-ratio", "0.05", "--json", "--explain") == 0

    result = json.loads(capsys.readouterr().out)
    assert result["measured"]["ratio"]["high"] == 0.05
    assert result["failure"] is None
    assert result["predicted"]["ratio"] <= 0.05
    assert result["inputs"] == {"scores": 20, "profile": 20, "evaluation": 20}
    assert result["notes"]
    assert {"layer", "settings", "overhead", "removes", "per_percent", "chosen"} <= set(
        result["explain"][0]
    )


def test_a_budget_that_cannot_be_met_names_the_smallest(measured, capsys):
    assert harden_directory(measured, "--budget", "0.01%") == 2

    error = capsys.readouterr().err
    assert "--budget 0.01%: no protection is that small; the smallest possible overhead" in error
    assert error.count("\n") == 1
    assert not (measured / "out" / "plan.toml").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "one of the arguments --budget --target-ratio is required"),
        (("--budget", "10"), "must be a percentage above 0 such as 10%, not '10'"),
        (("--budget", "0%"), "must be a percentage above 0"),
        (("--target-ratio", "2"), "must be a share above 0 and up to 1"),
        (("--budget", "10%", "--target-ratio", "0.1"), "not allowed with argument --budget"),
        (("--budget", "10%", "--faults", "0"), "must be an integer of 1 or more"),
    ],
)
def test_bad_options_are_one_line(model, options, message, capsys):
    with pytest.raises(SystemExit) as ended:
        harden(model, *options)

    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in error
    assert error.count("\n") == 1


def test_a_model_needs_inputs(model, no_tools, capsys):
    command = ["harden", str(model / "graph.json"), "--budget", "10%", "-o", str(model / "out")]

    assert main(command) == 2
    assert "give --calibration X.npz" in capsys.readouterr().err


def test_too_few_inputs_are_refused(model, small, no_tools, capsys):
    np.savez(model / "inputs.npz", x=small.frames(2))

    assert harden(model, "--budget", "10%") == 2
    assert "inputs of their own" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(model, no_tools, capsys):
    (model / "out").mkdir()
    (model / "out" / "thesis.tex").write_text("mine")

    assert harden(model, "--budget", "10%") == 2
    assert "holds something else" in capsys.readouterr().err
    assert [path.name for path in (model / "out").iterdir()] == ["thesis.tex"]


def test_an_unknown_target_is_refused(model, no_tools, capsys):
    assert harden(model, "--budget", "10%", "--target", "abacus") == 2
    assert "target 'abacus' is unknown" in capsys.readouterr().err


def test_a_directory_brings_its_folding(model, tmp_path, small, no_tools, capsys):
    build_design(prepare(small.graph(), small.FOLDING), tmp_path / "plain")
    command = ["harden", str(tmp_path / "plain"), "--budget", "10%", "--fps", "100"]

    assert main([*command, "-o", str(tmp_path / "out")]) == 2
    assert "a build directory has its own plan and folding" in capsys.readouterr().err


def test_the_three_sets_are_disjoint_and_all_of_it(small):
    frames = small.frames(30)
    doubled = np.concatenate([frames, frames[:10]])
    found = inputs(None, doubled)
    every = [frame.tobytes() for part in vars(found).values() for frame in part]

    assert found.counts == {"scores": 10, "profile": 10, "evaluation": 10}
    assert sorted(every) == sorted(frame.tobytes() for frame in frames)


def test_what_judges_does_not_choose(small):
    frames = small.frames(30)
    found = inputs(frames[:20], frames[12:])
    judged = {frame.tobytes() for frame in found.evaluation}
    chosen = [frame.tobytes() for frame in (*found.scores, *found.profile)]

    assert len(judged) == 18
    assert len(chosen) == 12
    assert not judged & set(chosen)


def test_inputs_that_are_all_judged_by_are_too_few(small):
    with pytest.raises(InputError, match="inputs of their own"):
        inputs(small.frames(5), small.frames(5))


def test_tables_are_written_as_toml_reads_them(tmp_path):
    tables = {
        "default": {"control": "tmr", "checksum": {"modulus": 3, "retry": 1}},
        "layer": {"fc": {"tmr": {"neurons": [0, 2], "voters": 3}}, "odd name.1": {"post": "dup"}},
    }
    path = tmp_path / "plan.toml"
    path.write_text(toml_text(tables))

    assert load_plan(path) == parse_plan(tables, "here")
