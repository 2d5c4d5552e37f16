"""How elaboration grows: seconds and memory from a network to its Verilog, by layers and by lanes.

Each size is a process of its own: configuration, elaboration and Verilog emission of a chain of
convolutions (16x16 pixels, 8 channels in, 3x3) with 8 multipliers a lane: 8 lanes in each of many
layers, or many in one. Prints the processor's seconds, with those of Yosys, the peak memory, and
the exponent of the least-squares line through log(size) and log(seconds); the same for the memory
beyond that of a process that has only imported the program.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tercet.flow.emit import emit
from tercet.hw.configure import Fold, configure
from tercet.quant.ir import Conv2d, Graph, Requantize, TensorType

LAYERS, LANES = (2, 4, 8, 16, 32), (8, 16, 32, 64, 128)
ACT, CHANNELS, EDGE = TensorType(8, False), 8, 16


def chain(layers: int, channels: int) -> Graph:
    """Convolutions of `channels` neurons, one after the other; the first reads `CHANNELS`."""
    rng = np.random.default_rng(0)
    table = Requantize(rng.integers(1 << 15, 1 << 16, channels), np.full(channels, 25), ACT)
    nodes = tuple(
        Conv2d(
            name=f"conv{i}", inputs=(f"conv{i - 1}" if i else "x",), padding=(1,) * 4,
            weight=rng.integers(-127, 128, (channels, 3, 3, channels if i else CHANNELS)),
            bias=rng.integers(-999, 999, channels), requantize=table,
        )
        for i in range(layers)
    )  # fmt: skip
    return Graph("chain", "x", (EDGE, EDGE, CHANNELS), ACT, nodes, nodes[-1].name)


def measure(layers: int, lanes: int) -> dict[str, float]:
    """Processor seconds and peak memory in MiB of this process; 0 layers: of the imports alone."""
    before = _used()[0]
    if layers:
        graph = chain(layers, lanes)
        folding = {node.name: Fold(lanes, CHANNELS) for node in graph}
        with tempfile.TemporaryDirectory() as folder:
            emit(configure(graph, folding), Path(folder))
    seconds, peak = _used()
    return {"seconds": seconds - before, "mib": peak}


def _used() -> tuple[float, float]:
    """Processor seconds so far and peak memory in MiB, of this process and its children."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both), max(
        one.ru_maxrss for one in both
    ) / 1024


def apart(layers: int, lanes: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--one", str(layers), str(lanes)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope of the line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def curve(what: str, sizes: tuple[int, ...], cases: list[tuple[int, int]], idle: float) -> None:
    """Measure and print one table."""
    found = [apart(*case) for case in cases]
    print(f"| {what} | seconds | MiB | seconds / {what} |")
    print("|---|---|---|---|")
    for size, one in zip(sizes, found, strict=True):
        each = one["seconds"] / size
        print(f"| {size} | {one['seconds']:.1f} | {one['mib']:.0f} | {each:.3f} |")
    seconds = exponent(list(sizes), [one["seconds"] for one in found])
    memory = exponent(list(sizes), [max(1.0, one["mib"] - idle) for one in found])
    print(f"\nseconds ~ {what}^{seconds:.2f}, memory beyond {idle:.0f} MiB ~ {what}^{memory:.2f}\n")


def main() -> None:
    """Both curves, or one measurement for the process that asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, type=int, metavar=("LAYERS", "LANES"))
    asked = parser.parse_args().one
    if asked:
        print(json.dumps(measure(*asked)))
        return
    idle = apart(0, 1)["mib"]
    curve("layers", LAYERS, [(layers, CHANNELS) for layers in LAYERS], idle)
    curve("lanes", LANES, [(1, lanes) for lanes in LANES], idle)


if __name__ == "__main__":
    main()
