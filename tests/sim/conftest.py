"""A build directory made by hand, so that these tests need neither hw nor a build."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.quant import ir, serialize

SOURCE = Path(__file__).parent / "fixture" / "top.v"
ORDER = [2, 0, 3, 1]


def graph() -> ir.Graph:
    """The network that fixture/top.v computes."""
    first = ir.Dense(
        name="fc1",
        inputs=("x",),
        weight=np.array([[7, -2, 5, -1], [2, 2, -7, 6], [3, -8, 1, 2], [-5, 4, 6, -3]]),
        bias=np.array([-7, 21, 10, 0]),
        weight_bits=4,
        requantize=ir.Requantize(
            np.array([3]), np.array([4]), ir.TensorType(8, True), m_bits=8, lo=0
        ),
    )
    second = ir.Dense(
        name="fc2",
        inputs=("fc1",),
        weight=np.array([[1, 5, -6, 3], [-4, 7, 2, -1]]),
        bias=np.array([100, -100]),
        weight_bits=4,
    )
    kind = ir.TensorType(8, True)
    return ir.Graph("hand", "x", (4,), kind, (first, second), "fc2")


def _stream(prefix: str, lanes: int, bits: int, beats: int, elements: int) -> dict[str, Any]:
    names = {key: f"{prefix}_{key}" for key in ("valid", "ready", "data", "first", "last", "err")}
    layout = {"lanes": lanes, "lane_bits": bits, "signed": True, "beats": beats}
    return names | layout | {"shape": [elements], "permutation": None}


def _registers() -> list[dict[str, Any]]:
    found = [(f"fc1.window_{i}", 8, "window", None) for i in range(4)]
    found += [("fc1.acc", 16, "accumulator", 0), ("fc1.position", 2, "control", None)]
    found += [(f"fc1.{name}", 1, "control", None) for name in ("busy", "second", "full")]
    found += [("fc1.step", 2, "control", None), ("fc1.result", 8, "fifo", None)]
    found += [(f"fc1.result_{name}", 1, "fifo", None) for name in ("first", "last")]
    found += [("fc1.result_valid", 1, "control", None)]
    found += [(f"fc2.acc_{lane}", 16, "accumulator", lane) for lane in (0, 1)]
    found += [("fc2.step", 2, "control", None), ("fc2.done", 1, "control", None)]
    return [
        {"name": n, "width": w, "role": r, "layer": n[:3], "lane": lane, "replica": None}
        for n, w, r, lane in found
    ]


def document() -> dict[str, Any]:
    """The manifest of the fixture."""
    taps = [
        {"layer": "fc1"} | _stream("tap_fc1", 1, 8, 4, 4) | {"permutation": ORDER},
        {"layer": "fc2"} | _stream("tap_fc2", 2, 16, 1, 2),
    ]
    registers = _registers()
    return {
        "schema": 1,
        "design": "0" * 64,
        "name": "hand",
        "top": "top",
        "verilog": "top.v",
        "clock": "clk",
        "reset": "rst",
        "input": _stream("i", 2, 8, 2, 4) | {"err": None},
        "output": _stream("o", 2, 16, 1, 2),
        "taps": taps,
        "layers": [],
        "latency_cycles": 23,
        "initiation_interval": 22,
        "last_beat_cycles": [23, 45, 67],
        "sites": {"ff_bits": sum(r["width"] for r in registers), "registers": registers},
    }


def frames(count: int) -> np.ndarray[Any, Any]:
    """Random input frames; the first ones hold the extremes."""
    x = np.random.default_rng(3).integers(-128, 128, (count, 4))
    x[0], x[1] = -128, 127
    return x


def _hash(directory: Path) -> str:
    return hashlib.sha256((directory / "top.v").read_bytes()).hexdigest()


@pytest.fixture
def small_dir(tmp_path: Path) -> Path:
    """A build directory of two dense layers, 40 test frames."""
    directory = tmp_path / "build"
    directory.mkdir()
    shutil.copy(SOURCE, directory / "top.v")
    serialize.save(graph(), directory / "graph.json")
    made = document() | {"design": _hash(directory)}
    (directory / "manifest.json").write_text(json.dumps(made, indent=1))
    np.savez(directory / "vectors.npz", x=frames(40))
    return directory


@pytest.fixture
def stateful_dir(tmp_path: Path) -> Path:
    """A build directory of fixture/faults.v, which holds every kind of state; no graph.json."""
    directory = tmp_path / "stateful"
    directory.mkdir()
    shutil.copy(SOURCE.with_name("faults.v"), directory / "top.v")
    # The engines enumerate the Verilog; of this list they use the number of bits.
    rows = [{"name": "window", "width": 130, "role": "window", "layer": "sum"}]
    made = document() | {
        "design": _hash(directory),
        "input": _stream("i", 1, 8, 4, 4) | {"err": None, "signed": False},
        "output": _stream("o", 1, 16, 2, 2) | {"signed": False},
        "taps": [],
        "latency_cycles": 9,
        "initiation_interval": 9,
        "last_beat_cycles": [9, 18, 27],
        "sites": {"ff_bits": 130, "registers": rows},
    }
    (directory / "manifest.json").write_text(json.dumps(made, indent=1))
    x = np.random.default_rng(0).integers(0, 256, (40, 4))
    np.savez(directory / "vectors.npz", x=x)
    return directory
