"""How fast each fault engine is on a 64-32-10 perceptron, 8 x 4 and 10 x 4 multipliers.

`python benchmarks/engines.py [--data DIR] [--design DIR ...]`: flips of flip-flop bits, uniform
over bits and cycles of eight inputs back to back; DIR/w2.npz holds trained weights and frames,
without it they are random. Each engine gets the same faults; all results are compared. `--design`
repeats the table for build directories with two inputs, a tenth of the faults, 50 cycles of
exhaustive ones, and without cocotb. Rates are per second of processor time of all processes, since
the machine may be busy; two workers against one is time on the clock, and means something on an
idle machine only.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tercet.flow.builder import build_design
from tercet.flow.design import prepare as folded
from tercet.hw.configure import Fold
from tercet.quant import ir
from tercet.sim import gates_build, steady
from tercet.sim.engines import bitparallel, cocotb, exhaustive, native
from tercet.sim.faults import Faults
from tercet.sim.steady import Prepared

SEED = 4
INPUTS = 8
FAULTS, COCOTB_FAULTS, DIRECT = 200_000, 300, 50_000
PART = 50  # cycles of a larger design that are exhaustive
FOLDING = {"hidden": Fold(8, 4), "logits": Fold(10, 4)}


def network(data: Path | None) -> tuple[ir.Graph, ir.IntArray]:
    """The perceptron and frames for it."""
    rng = np.random.default_rng(SEED)
    if data is None:
        weights = [rng.integers(-128, 128, (32, 64)), rng.integers(-128, 128, (10, 32))]
        biases = [rng.integers(-500, 500, 32), rng.integers(-500, 500, 10)]
        frames = rng.integers(-128, 128, (INPUTS, 64))
    else:
        found = np.load(data / "w2.npz", allow_pickle=False)
        weights = [found["w0"].astype(np.int64), found["w1"].astype(np.int64)]
        biases = [found["b0"].astype(np.int64), found["b1"].astype(np.int64)]
        frames = found["x"][:INPUTS].astype(np.int64)
    scale = ir.Requantize(np.ones(1, np.int64), np.array([9]), ir.TensorType(7, False))
    hidden = ir.Dense(
        name="hidden", inputs=("x",), weight=weights[0], bias=biases[0], requantize=scale
    )
    logits = ir.Dense(name="logits", inputs=("hidden",), weight=weights[1], bias=biases[1])
    kind = ir.TensorType(8, True)
    return ir.Graph("perceptron", "x", (64,), kind, (hidden, logits), "logits"), frames


def cpu() -> float:
    """Seconds of processor time of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, processor seconds, seconds on the clock."""
    began, used = time.perf_counter(), cpu()
    result = call()
    return result, cpu() - used, time.perf_counter() - began


def same(one: Any, other: Any) -> bool:
    """Whether two engines saw the same."""
    names = [field.name for field in dataclasses.fields(one)]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def latency(prepared: Prepared) -> int:
    """Cycles of the first inference, from its first beat in to its last beat out."""
    golden = prepared.golden
    first = int(np.searchsorted(golden.accepted_at, 1)) - 1
    return int(golden.done[0]) - first + 1


def drawn(prepared: Prepared, count: int, window: tuple[int, int] | None = None) -> Faults:
    """Flips of flip-flop bits in these cycles, default the window of the stimulus."""
    rng = np.random.default_rng(SEED)
    cycle = rng.integers(*(window or prepared.stimulus.window(prepared.golden)), count)
    return Faults.single(cycle, rng.integers(0, prepared.model.design.ff_bits, count))


def row(name: str, faults: int, seconds: float, clock: float) -> float:
    """Print a line; experiments a second."""
    rate = faults / seconds
    print(f"{name:<24}{faults:>10,}{seconds:>10.2f} s{clock:>10.2f} s{rate:>14,.0f}/s", flush=True)
    return rate


def measure(directory: Path, *, audit: bool, faults: int = FAULTS) -> bool:
    """The table of one design; whether all engines agreed."""
    inputs = INPUTS if audit else 2
    prepared, seconds, _ = timed(lambda: steady.prepare(directory, None, inputs, 0))
    design = prepared.model.design
    start, stop = prepared.stimulus.window(prepared.golden)
    print(
        f"\n{directory.name}: {design.ff_bits:,} flip-flop bits; "
        f"struck in {stop - start:,} cycles; "
        f"{latency(prepared)} from the first beat in to the first result"
    )
    program, lanes_seconds, clock = timed(
        lambda: gates_build.build(design.cut, prepared.model.manifest.top)
    )
    print(
        f"made (0 if kept from before): native {seconds:.1f} s, bit-parallel {lanes_seconds:.1f} s "
        f"of processor, {clock:.1f} s on the clock; {program.luts:,} LUTs, {gates_build.vectors()}"
    )
    chosen = drawn(prepared, faults)
    alone, used, clock = timed(lambda: native.inject(prepared, chosen, workers=1))
    rates = {"native": row("native", faults, used, clock)}
    lanes, used, clock = timed(lambda: bitparallel.inject(prepared, chosen, workers=1))
    rates["bitparallel"] = row("bitparallel", faults, used, clock)
    both, used, half = timed(lambda: bitparallel.inject(prepared, chosen, workers=2))
    row("  two workers", faults, used, half)
    window = (start, stop) if audit else (start, min(stop, start + PART))
    fates, used, spent = timed(lambda: exhaustive.run(prepared, *window, workers=1))
    rates["exhaustive"] = row("exhaustive", fates.faults, used, spent)
    single = f"; one input: {used / INPUTS:.2f} s of processor" if audit else ""
    print(f"  of these simulated: {fates.simulated:,}{single}")
    direct = drawn(prepared, min(DIRECT, faults), window)
    inherited = fates.of(direct.start, direct.target)
    agreed = same(alone, lanes) and same(lanes, both)
    agreed &= same(native.inject(prepared, direct), inherited)
    if audit:
        few = chosen.part(0, COCOTB_FAULTS)
        _, used, clock = timed(lambda: cocotb.inject(prepared, few, workers=1))
        rates["cocotb"] = row("cocotb", len(few), used, clock)
        print(f"native is {rates['native'] / rates['cocotb']:,.0f} x cocotb")
    print(f"bitparallel is {rates['bitparallel'] / rates['native']:.1f} x native")
    print(f"exhaustive is {rates['exhaustive'] / rates['bitparallel']:.1f} x bitparallel")
    print(f"two workers take {clock_ratio(half, prepared, chosen):.2f} of the time of one")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"largest process {peak:.2f} GiB; engines agree: {agreed}")
    return agreed


def clock_ratio(half: float, prepared: Prepared, faults: Faults) -> float:
    """Time on the clock of two workers over that of one, run one after the other."""
    _, _, whole = timed(lambda: bitparallel.inject(prepared, faults, workers=1))
    return half / whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with w2.npz")
    parser.add_argument("--design", type=Path, nargs="*", default=[], help="build directories")
    args = parser.parse_args()
    graph, frames = network(args.data)
    print(f"{'engine':<24}{'faults':>10}{'processor':>12}{'clock':>12}{'rate':>16}")
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "perceptron"
        build_design(folded(graph, FOLDING), directory, frames=frames)
        agreed = measure(directory, audit=True)
    for directory in args.design:
        agreed &= measure(directory, audit=False, faults=FAULTS // 10)
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
