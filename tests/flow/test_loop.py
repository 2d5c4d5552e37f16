"""The commands one after the other on a small network: the JSON that other programs read."""

import json

import numpy as np
import pytest

from tercet.flow import cli
from tercet.quant import ir, serialize

pytestmark = pytest.mark.verilator
COST = {"luts", "ffs", "dsps", "brams", "latency_cycles", "initiation_interval", "fmax_mhz"}
COST |= {"layers", "source"}
PLAN = """
[layer.hidden]
tmr = { neurons = [0, 3] }
"""


def small_graph():
    rng = np.random.default_rng(5)
    signed, unsigned = ir.TensorType(8, True), ir.TensorType(7, False)
    scale = ir.Requantize(np.array([21000]), np.array([22]), unsigned)
    hidden = ir.Dense(
        name="hidden",
        inputs=("x",),
        weight=rng.integers(-128, 128, (8, 16)),
        bias=rng.integers(-500, 500, 8),
        requantize=scale,
    )
    logits = ir.Dense(
        name="logits",
        inputs=("hidden",),
        weight=rng.integers(-128, 128, (4, 8)),
        bias=rng.integers(-500, 500, 4),
    )
    return ir.Graph("small", "x", (16,), signed, (hidden, logits), "logits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with graph.json, inputs.npz, plan.toml and the build `design`."""
    path = tmp_path_factory.mktemp("loop")
    serialize.save(small_graph(), path / "graph.json")
    inputs = np.random.default_rng(1).integers(-128, 128, (12, 16))
    np.savez(path / "inputs.npz", x=inputs)
    (path / "plan.toml").write_text(PLAN)
    arguments = ["build", str(path / "graph.json"), "-o", str(path / "design")]
    options = ["--plan", str(path / "plan.toml"), "--vectors", str(path / "inputs.npz")]
    assert cli.main([*arguments, *options, "--target", "ecp5-25k"]) == 0
    return path


@pytest.fixture
def tercet(folder, capsys):
    """tercet(command, *arguments) -> (status, JSON of stdout); relative names lie in `folder`."""

    def call(command, *arguments):
        capsys.readouterr()
        status = cli.main([command, *arguments, "--json"])
        return status, json.loads(capsys.readouterr().out)

    return call


def test_build_reports_what_it_made(folder, tercet, tmp_path):
    status, result = tercet("build", str(folder / "graph.json"), "-o", str(tmp_path / "d"))

    keys = {"design", "target", "plan", "folding", "latency_cycles", "initiation_interval"}
    assert status == 0
    assert keys | {"estimate", "verilog", "manifest"} <= set(result)
    assert set(result["estimate"]) >= COST
    assert (tmp_path / "d" / "top.v").is_file()


@pytest.mark.parametrize("engine", ["reference", "torch", "verilator"])
def test_run_on_every_engine_equals_the_reference(folder, tercet, tmp_path, engine):
    output = tmp_path / "y.npz"

    status, result = tercet(
        "run", str(folder / "design"), "--inputs", str(folder / "inputs.npz"),
        "-o", str(output), "--engine", engine,
    )  # fmt: skip

    assert status == 0
    assert result == {"images": 12, "engine": engine, "equal_to_reference": True}
    with np.load(output) as found:
        assert found["logits"].shape == (12, 4)


def test_verify_passes_every_bench(folder, tercet):
    status, result = tercet("verify", str(folder / "design"), "--images", "8")

    assert status == 0
    assert (result["images"], result["mismatches"]) == (8, 0)
    assert result["benches"]
    assert all(bench["passed"] for bench in result["benches"])


def test_inject_counts_outcomes_with_intervals(folder, tercet):
    status, result = tercet("inject", str(folder / "design"), "--faults", "300", "--audit", "10")

    rate = result["sdc_critical"]
    assert status == 0
    assert sum(result["outcomes"].values()) == result["experiments"] == 300
    assert rate["low"] <= rate["avf"] <= rate["high"]
    assert result["audit"] == {"sampled": 10, "disagreements": 0, "differing": []}
    keys = {"engine", "seconds", "rate_per_s", "ff_bits", "detection_coverage", "by_role"}
    assert keys | {"by_layer", "exhaustive", "inputs"} <= set(result)


def test_synth_finds_the_replicas_beside_the_estimate(folder, tercet):
    status, result = tercet("synth", str(folder / "design"))

    assert status == 0
    assert result["replicas"]["found"] == result["replicas"]["expected"] > 0
    assert set(result["estimate"]) >= COST


def test_estimate_is_the_one_of_the_build(folder, tercet):
    status, result = tercet(
        "estimate", str(folder / "graph.json"), "--target", "ecp5-25k",
        "--plan", str(folder / "plan.toml"),
    )  # fmt: skip

    assert status == 0
    built = json.loads((folder / "design" / "report.json").read_text())["estimate"]
    assert {key: result[key] for key in built} == built


@pytest.mark.parametrize("command", ["verify", "inject"])
def test_text_of_a_command_is_plain_when_it_is_piped(folder, capsys, command):
    few = {"verify": ["--images", "2"], "inject": ["--faults", "50", "--audit", "0"]}

    assert cli.main([command, str(folder / "design"), *few[command]]) == 0
    assert "\x1b" not in capsys.readouterr().out
