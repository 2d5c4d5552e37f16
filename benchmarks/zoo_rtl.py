"""The zoo as circuits: built, compiled, every tap compared on real frames; times and memory.

    python benchmarks/zoo_rtl.py GRAPHS [--network NAME ...] [--images N] [--keep DIR]

GRAPHS is the --out folder of benchmarks/zoo.py (NAME.json and NAME.npz). Each network is folded to
the multipliers of `MULTIPLIERS`, built, run through Verilator without stalls (time of an image),
and verified with stalls (`tercet verify`: words that differ on any tap or the output, measured
interval). `bound` is the largest ratio of multiplications to multipliers of a layer: no folding
with these multipliers can be faster. Times are seconds of wall clock; memory is the peak of the
process and of its largest child.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.folding import balance
from tercet.flow.runner import run
from tercet.quant import serialize
from tercet.sim.expected import load_frames
from tercet.sim.verify import verify

MULTIPLIERS = {
    "lenet5": 64,
    "resnet8": 500,
    "dscnn": 300,
    "mobilenet": 500,
    "autoencoder": 128,
    "resnet20": 700,
    "densenet": 500,
}
COLUMNS = (
    "network", "multipliers", "MACs a cycle", "interval", "bound", "ratio", "latency", "images",
    "words that differ", "build s", "compile s", "image s", "verify s", "peak MiB",
)  # fmt: skip


def measure(graphs: Path, name: str, images: int, folder: Path) -> dict[str, Any]:
    """One row of the table."""
    graph = serialize.load(graphs / f"{name}.json")
    frames = load_frames(graphs / f"{name}.npz", graph)[:images]
    started = time.monotonic()
    design = prepare(graph, balance(graph, MULTIPLIERS[name]))
    directory = folder / name
    result = build_design(design, directory, frames=frames)
    built = time.monotonic() - started
    manifest = json.loads((directory / "manifest.json").read_text())
    layers = [layer for layer in manifest["layers"] if layer["macs"]]
    lanes = [layer["folding"]["pe"] * layer["folding"]["simd"] for layer in layers]
    bound = max(layer["macs"] / n for layer, n in zip(layers, lanes, strict=True))
    times = []
    for _ in range(2):  # the first run compiles, if no run before it did
        began = time.monotonic()
        same = run(directory, directory / "vectors.npz", folder / "y.npz", "verilator")
        times.append(time.monotonic() - began)
        assert same["equal_to_reference"], f"{name}: the Verilog and the reference differ"
    began = time.monotonic()
    checked = verify(directory)
    seconds = time.monotonic() - began
    failed = [bench["name"] for bench in checked["benches"] if not bench["passed"]]
    assert not failed, f"{name}: failed benches {failed}"
    interval = checked["initiation_interval"]
    assert interval == result["initiation_interval"]
    usage = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    values = (
        name, sum(lanes), f"{sum(layer['macs'] for layer in layers) / interval:.0f}",
        f"{interval:,}", f"{bound:,.0f}", f"{interval / bound:.3f}",
        f"{checked['latency_cycles']:,}", checked["images"], checked["mismatches"],
        f"{built:.0f}", f"{max(0.0, times[0] - times[1]):.0f}", f"{times[1] / len(frames):.2f}",
        f"{seconds:.0f}", f"{max(usage) / 1024:,.0f}",
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def main() -> None:
    """Measure each network in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("graphs", type=Path)
    parser.add_argument("--network", nargs="*", choices=list(MULTIPLIERS))
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="folder for the builds")
    args = parser.parse_args()
    names = args.network or [
        name for name in MULTIPLIERS if (args.graphs / f"{name}.json").exists()
    ]
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        for name in names:
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                row = pool.submit(measure, args.graphs, name, args.images, folder).result()
            print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
