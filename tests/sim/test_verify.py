"""Verification passes on a right design and names what is wrong with a wrong one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.sim import budget, manifest
from tercet.sim.verify import _sample, verify

pytestmark = pytest.mark.verilator

BENCHES = ["stream_all", "timing", "three_frames", "long_stall", "reset_mid_frame", "faults"]


def edit_manifest(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def edit_verilog(directory: Path, old: str, new: str) -> None:
    text = (directory / "top.v").read_text()
    assert text.count(old) == 1
    (directory / "top.v").write_text(text.replace(old, new))


def bench(result: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(b for b in result["benches"] if b["name"] == name)
    return found


def test_right_design_passes(small_dir: Path) -> None:
    told: list[str] = []
    result = verify(small_dir, progress=told.append)

    assert [b["name"] for b in result["benches"]] == BENCHES
    assert {b["driver"] for b in result["benches"]} == {"cocotb"}
    assert all(b["passed"] for b in result["benches"]), result["benches"]
    assert (result["images"], result["mismatches"]) == (40, 0)
    assert (result["latency_cycles"], result["initiation_interval"]) == (23, 22)
    assert result["predicted"]["last_beat_cycles"] == [23, 45, 67]
    assert "running the benches on 40 frames" in told


CLOCKED = ["stream_all", "timing", "long_stall"]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every design counts as large."""
    monkeypatch.setattr(budget, "CLOCKED_ABOVE_CYCLES", 0)


@pytest.mark.usefixtures("large")
def test_large_design_passes_on_the_clocked_harness(small_dir: Path) -> None:
    told: list[str] = []
    result = verify(small_dir, progress=told.append)

    assert [b["name"] for b in result["benches"]] == BENCHES
    assert [b["name"] for b in result["benches"] if b["driver"] == "clocked"] == CLOCKED
    assert all(b["passed"] for b in result["benches"]), result["benches"]
    assert (result["latency_cycles"], result["initiation_interval"]) == (23, 22)
    assert bench(result, "timing")["last_beat_cycles"] == [23, 45, 67]
    assert bench(result, "stream_all")["frames"] == 40
    assert "stream_all: frame 0 of 40" in told


@pytest.mark.usefixtures("large")
def test_wrong_design_fails_every_bench_of_the_clocked_harness(small_dir: Path) -> None:
    edit_verilog(small_dir, "4'ha: weight = 6;", "4'ha: weight = 7;")
    result = verify(small_dir, images=20)

    assert {b["name"] for b in result["benches"] if not b["passed"]} >= set(CLOCKED)
    assert "element [3]: got" in str(bench(result, "stream_all")["report"])


@pytest.mark.usefixtures("large")
def test_wrong_prediction_fails_timing_on_the_clocked_harness(small_dir: Path) -> None:
    edit_manifest(small_dir, lambda m: m.update(initiation_interval=21))
    result = verify(small_dir, images=3)

    assert [b["name"] for b in result["benches"] if not b["passed"]] == ["timing"]
    assert bench(result, "timing")["report"] == [
        "initiation_interval: measured 22, the manifest says 21",
        "spacings: measured [22], the manifest says [21]",
    ]


def test_faults_report_names_roles_and_control(small_dir: Path) -> None:
    found = bench(verify(small_dir, images=3, seed=2), "faults")

    assert set(found["by_role"]) == {"accumulator", "control", "fifo", "window"}
    assert sum(role["flips"] for role in found["by_role"].values()) == 2 * found["registers"]
    assert " bit " in found["control"]


def test_wrong_weight_is_found_and_named(small_dir: Path) -> None:
    edit_verilog(small_dir, "4'ha: weight = 6;", "4'ha: weight = 7;")
    result = verify(small_dir, images=20)
    lines = bench(result, "stream_all")["report"]

    # Neuron 3 of fc1 stands at position 2 of the stream.
    assert result["mismatches"] > 0
    assert not bench(result, "stream_all")["passed"]
    assert any(line.startswith("fc1: frame ") and "element [3]: got" in line for line in lines)


def test_offer_that_changes_under_a_stall_is_found(small_dir: Path) -> None:
    edit_verilog(
        small_dir,
        "assign o_data = {acc_1, acc_0};",
        "assign o_data = {acc_1, acc_0} ^ {31'd0, ~o_ready};",
    )
    result = verify(small_dir, images=6)

    assert "output: an offered beat was changed or withdrawn" in str(
        bench(result, "long_stall")["report"]
    )
    assert bench(result, "timing")["passed"]


@pytest.mark.slow
def test_beat_lost_under_a_stall_is_found(small_dir: Path) -> None:
    edit_verilog(small_dir, "if (done & o_ready) done <= 0;", "if (done) done <= 0;")
    result = verify(small_dir, images=12)

    assert not bench(result, "long_stall")["passed"]
    assert bench(result, "timing")["passed"]


@pytest.mark.slow
def test_raised_err_is_found(small_dir: Path) -> None:
    edit_verilog(small_dir, "assign o_err = tap_fc2_err;", "assign o_err = acc_seen;")
    edit_verilog(
        small_dir,
        "wire [31:0] tap_fc2_data;",
        "wire [31:0] tap_fc2_data; wire acc_seen = o_data[3];",
    )
    result = verify(small_dir, images=12)

    assert "err=1" in str(bench(result, "stream_all")["report"])


@pytest.mark.slow
def test_state_that_survives_reset_is_found(small_dir: Path) -> None:
    edit_verilog(small_dir, "if (rst) begin busy <= 0;", "if (rst) begin")
    result = verify(small_dir, images=6)

    assert not bench(result, "reset_mid_frame")["passed"]


def test_wrong_prediction_fails_timing_only(small_dir: Path) -> None:
    edit_manifest(small_dir, lambda m: m.update(initiation_interval=21))
    result = verify(small_dir, images=3)

    assert [b["name"] for b in result["benches"] if not b["passed"]] == ["timing"]
    assert bench(result, "timing")["report"] == [
        "initiation_interval: measured 22, the manifest says 21",
        "spacings: measured [22], the manifest says [21]",
    ]


def test_unknown_register_fails_the_faults_bench(small_dir: Path) -> None:
    # fc2 has no register acc; the name is visible because fc1 has one.
    edit_manifest(small_dir, lambda m: m["sites"]["registers"][4].update(name="fc2.acc"))
    found = bench(verify(small_dir, images=3), "faults")

    assert not found["passed"]
    assert found["report"] == ["register fc2.acc is not in the model"]


def test_design_that_no_flip_disturbs_fails_its_control(small_dir: Path) -> None:
    edit_verilog(
        small_dir,
        "  wire [31:0] tap_fc2_data;",
        '  wire [31:0] tap_fc2_data;\n  (* role = "fifo" *) reg [7:0] \\spare$1 ;\n'
        "  always @(posedge clk) \\spare$1 <= \\spare$1 ^ i_data[7:0];",
    )
    spare = {"name": "spare$1", "width": 8, "role": "fifo", "layer": "", "lane": None}
    edit_manifest(small_dir, lambda m: m["sites"].update(registers=[spare]))
    found = bench(verify(small_dir, images=3), "faults")

    assert not found["passed"]
    assert found["report"] == ["control did not fail: no flip but of checkers changed the output"]


def test_replicas_of_a_voter_are_paired(small_dir: Path) -> None:
    def replicate(document: dict[str, Any]) -> None:
        registers = document["sites"]["registers"]
        registers += [registers[4] | {"name": f"fc1.r{i}.acc", "replica": i} for i in range(3)]
        replicas = [f"fc1.r{i}" for i in range(3)]
        voter = {"path": "fc1.v", "layer": "fc1", "lane": 0, "replicas": replicas, "width": 16}
        document["voters"] = [voter]

    edit_manifest(small_dir, replicate)
    found = manifest.load(small_dir)
    _, pairs = _sample(found, 4)

    assert [[found.registers[i].name for i in pair] for pair in pairs] == [
        ["fc1.r0.acc", "fc1.r1.acc"]
    ]


def test_tap_that_is_no_layer_is_bad_input(small_dir: Path) -> None:
    edit_manifest(small_dir, lambda m: m["taps"][0].update(layer="other"))

    with pytest.raises(InputError, match=r"tap other is no layer of graph\.json"):
        verify(small_dir, images=3)


def test_tap_of_another_size_is_bad_input(small_dir: Path) -> None:
    edit_manifest(small_dir, lambda m: m["taps"][0].update(beats=5, shape=[5], permutation=None))

    with pytest.raises(InputError, match=r"layer fc1 has 5 elements, graph\.json 4"):
        verify(small_dir, images=3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"y": np.zeros((2, 4), np.int64)}, "holds no array `x`"),
        ({"x": np.zeros((2, 4))}, "needs integers"),
        ({"x": np.full((2, 4), 500)}, "values outside"),
        ({"x": np.zeros((2, 5), np.int64)}, "shape"),
        ({"x": np.zeros((0, 4), np.int64)}, "no frames to verify"),
        ({"x": np.array([object()])}, "not an .npz file of plain arrays"),
    ],
)
def test_bad_vectors_are_named(small_dir: Path, content: dict[str, Any], message: str) -> None:
    np.savez(small_dir / "vectors.npz", **content)

    with pytest.raises(InputError, match=rf"vectors\.npz: .*{message}"):
        verify(small_dir)


def test_vectors_that_are_no_archive_are_named(small_dir: Path) -> None:
    (small_dir / "vectors.npz").write_bytes(b"PK\3\4 not a zip")

    with pytest.raises(InputError, match=r"vectors\.npz: not an \.npz file"):
        verify(small_dir)
    (small_dir / "vectors.npz").unlink()
    with pytest.raises(InputError, match=r"vectors\.npz: No such file"):
        verify(small_dir)
