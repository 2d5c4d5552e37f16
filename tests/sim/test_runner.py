"""Building a model and running a bench on it."""

import json
import os
import sys
from pathlib import Path

import pytest

from tercet.quant.errors import ClaimError, InputError
from tercet.sim import manifest, probe, runner

pytestmark = pytest.mark.verilator

STREAM = "tercet.sim.benches.stream"


def test_model_is_built_once(small_dir: Path) -> None:
    found = manifest.load(small_dir)

    model = runner.build(found)

    assert os.access(model, os.X_OK)
    assert runner.build(found) == model


def test_model_follows_the_visible_registers(small_dir: Path) -> None:
    found = manifest.load(small_dir)
    text = probe.control_file(found, found.registers[4:5])

    assert '-module "*" -var "acc"' in text
    assert text != probe.control_file(found)


def test_verilog_that_does_not_compile_is_bad_input(small_dir: Path) -> None:
    (small_dir / "top.v").write_text("module top(input clk);\n  nonsense\nendmodule\n")

    with pytest.raises(InputError, match="refused the design: %Error"):
        runner.build(manifest.load(small_dir))


def test_python_path_leaves_the_current_directory_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", "relative", str(tmp_path), str(other), "/absent"])

    assert runner.python_path() == str(other)


def test_bench_without_vectors_fails_with_its_reason(small_dir: Path, tmp_path: Path) -> None:
    model = runner.build(manifest.load(small_dir))
    options = {"directory": str(small_dir), "vectors": str(tmp_path), "seed": 0}
    with runner.start(model, STREAM, ("three_frames",), tmp_path / "work", **options) as bench:
        (result,) = bench.wait(120)

    assert not result.passed
    assert "stream_0.bin" in result.message


def test_bench_that_dies_leaves_a_result(small_dir: Path, tmp_path: Path) -> None:
    model = runner.build(manifest.load(small_dir))
    with runner.start(model, "no.such.module", ("nothing",), tmp_path / "work") as bench:
        (result,) = bench.wait(120)

    assert not result.passed
    assert result.message.startswith("no result: ")
    assert json.loads((tmp_path / "work" / "options.json").read_text()) == {}


def test_bench_out_of_time_fails_its_claim(small_dir: Path, tmp_path: Path) -> None:
    model = runner.build(manifest.load(small_dir))
    with (
        runner.start(model, STREAM, ("three_frames",), tmp_path / "work") as bench,
        pytest.raises(ClaimError, match="benches three_frames did not end in 0 s"),
    ):
        bench.wait(0)


def test_waiting_names_what_has_not_ended(small_dir: Path, tmp_path: Path) -> None:
    model = runner.build(manifest.load(small_dir))
    told: list[str] = []
    with runner.start(model, STREAM, ("three_frames",), tmp_path / "work") as bench:
        bench.wait(120, told.append)

    assert set(told) == {"waiting for three_frames"}


def test_leaving_the_context_ends_the_simulator(small_dir: Path, tmp_path: Path) -> None:
    model = runner.build(manifest.load(small_dir))
    with runner.start(model, STREAM, ("three_frames",), tmp_path / "work") as bench:
        process = bench._process

    assert process.poll() is not None
