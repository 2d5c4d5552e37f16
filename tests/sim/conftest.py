"""A build directory made by hand, so that these tests need neither hw nor a build."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.quant import ir, serialize
from tercet.sim import faults, outcomes, sites, testbed

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


class FakeTestbed:
    """Two layers of registers, two memories; outcomes are a formula of target and cycle.

    Bits are numbered in the order of `WIDTHS`; an inference takes 10 cycles, from cycle 20 on.
    """

    WIDTHS = (("a.acc_0", 8), ("a.acc_1", 8), ("a.step", 2), ("b.acc_0", 5), ("b.window.x", 1))
    engines = ("native", "cocotb")
    interval = 10.0

    def __init__(self, inputs: int = 40) -> None:
        self.inputs = np.arange(inputs)
        self.window = (20, 20 + 10 * inputs)
        self.registers = tuple(self._register(*row) for row in self.WIDTHS)
        bits = [(name, i) for name, width in self.WIDTHS for i in range(width)]
        self.numbers = {bit: number for number, bit in enumerate(bits)}
        self.space = faults.Space.of(24, [("a.weights", 4, 3), ("b.window.store", 2, 5)])
        self.origin = {
            "design": "d" * 64,
            "manifest": "m" * 64,
            "inputs_digest": f"{inputs}",
            "testbed": {"kind": "fake"},
        }
        self.calls: list[tuple[str, int]] = []

    @staticmethod
    def _register(name: str, width: int) -> sites.Register:
        bits = tuple(sites.Bit(name, i, (name,), i) for i in range(width))
        leaf = name.split(".")[-1]
        role = "accumulator" if leaf.startswith("acc") else "control" if leaf == "step" else None
        lane = int(leaf[-1]) if leaf.startswith("acc") else None
        return sites.Register(name, role, name[0], lane, None, (name,), bits)

    def input_of(self, cycle: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return (cycle - 20) // 10

    def run(self, engine, chosen, *, workers=None, progress=None):
        self.calls.append((engine, len(chosen)))
        first = chosen.first[:-1]
        mixed = (chosen.target[first] * 7919 + chosen.start[first] * 104729) % 101
        outcome = np.select(
            [mixed < 5, mixed < 12, mixed < 20],
            [outcomes.Outcome.SDC_CRITICAL, outcomes.Outcome.DUE, outcomes.Outcome.HANG],
        )
        if progress is not None:
            progress(len(chosen))
        return testbed.Verdicts(outcome.astype(np.uint8), np.where(mixed < 20, -1, mixed % 4))


@pytest.fixture
def fake() -> FakeTestbed:
    """A testbed that needs no tool."""
    return FakeTestbed()
