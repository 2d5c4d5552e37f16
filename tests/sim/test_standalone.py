"""The bench in DIR/cocotb runs without tercet."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from tercet.sim import standalone

pytestmark = pytest.mark.verilator


def run_make(folder: Path, blocked: Path) -> subprocess.CompletedProcess[str]:
    """`make` where importing tercet fails."""
    (blocked / "tercet.py").write_text("raise ImportError('tercet must not be needed')\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(blocked)}
    return subprocess.run(
        ["make", "-C", str(folder)], env=environment, capture_output=True, text=True, timeout=300
    )


def cases(folder: Path) -> dict[str | None, bool]:
    root = ET.parse(folder / "results.xml").getroot()
    return {case.get("name"): case.find("failure") is None for case in root.iter("testcase")}


def test_bench_names_every_stream(small_dir: Path) -> None:
    folder = standalone.write(small_dir)
    layout = json.loads((folder / "layout.json").read_text())
    with np.load(folder / "vectors.npz") as vectors:
        shapes = {name: vectors[name].shape for name in vectors.files}

    assert folder == small_dir / "cocotb"
    assert set(layout["streams"]) == {"input", "output", "tap_fc1", "tap_fc2"}
    assert shapes["tap_fc1"] == (12, 4, 1)
    assert "err" not in layout["streams"]["input"]
    assert "tercet" not in (folder / "test_top.py").read_text()


@pytest.mark.parametrize(
    ("latency", "interval", "frames", "says"),
    [
        (23, 22, 12, "12 frames are in vectors.npz, about 265 cycles"),
        (60_000, 36_864, 4, "4 frames are in vectors.npz, about 170,592 cycles"),
        (900_000, 600_000, 1, "One frame is in vectors.npz, about 900,000 cycles"),
    ],
)
def test_frames_follow_the_cycles(
    small_dir: Path, latency: int, interval: int, frames: int, says: str
) -> None:
    path = small_dir / "manifest.json"
    document = json.loads(path.read_text())
    document |= {"latency_cycles": latency, "initiation_interval": interval}
    path.write_text(json.dumps(document))
    folder = standalone.write(small_dir)
    with np.load(folder / "vectors.npz") as vectors:
        counts = {len(vectors[name]) for name in vectors.files}

    assert counts == {frames} == {json.loads((folder / "layout.json").read_text())["frames"]}
    assert says in (folder / "Makefile").read_text()


def test_frames_follow_the_bytes(small_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone, "MAX_BYTES", 61)
    folder = standalone.write(small_dir)

    # A frame is 4 bytes of input, 4 of output, 4 and 4 of the taps.
    assert json.loads((folder / "layout.json").read_text())["frames"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 2])
def test_make_passes_on_few_frames(
    small_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    monkeypatch.setattr(standalone, "FRAMES", frames)
    folder = standalone.write(small_dir)
    done = run_make(folder, tmp_path)

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_make_passes_and_then_finds_a_wrong_beat(small_dir: Path, tmp_path: Path) -> None:
    folder = standalone.write(small_dir)
    done = run_make(folder, tmp_path)

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert cases(folder) == {"bit_exact": True, "timing": True}

    with np.load(folder / "vectors.npz") as vectors:
        words = dict(vectors)
    words["tap_fc1"][3, 2, 0] ^= 1
    np.savez(folder / "vectors.npz", **words)
    (folder / "results.xml").unlink()
    done = run_make(folder, tmp_path)

    assert done.returncode != 0
    assert cases(folder) == {"bit_exact": False, "timing": False}
    assert "tap_fc1: beat 14: got" in done.stdout
