"""Whether --fps and --fit hold: predicted beside synthesised, for graphs and targets.

    python benchmarks/fit.py GRAPH.json [GRAPH.json ...] [--targets T ...] [--fps N] [--fit SHARE]

Each graph is folded twice for each target, for N frames a second and for a share of the device,
built and synthesised. One row each: predicted / measured LUTs, flip-flops, DSP and memory blocks,
the measured share of the fullest resource, and predicted / asked initiation interval. With --verify
the interval is measured on Verilator as well. What cannot be built says why.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from tercet.flow import targets
from tercet.flow.builder import build
from tercet.flow.synth import synthesize
from tercet.quant.errors import InputError

TARGETS = ("ecp5-85k", "xc7a100t", "gw2a-18")
RESOURCES = ("luts", "ffs", "dsps", "brams")


def row(model: Path, target: str, goal: dict[str, float], folder: Path, verify: bool) -> str:
    """One line of the table; the build stays in `folder`."""
    device, started = targets.find(target), time.monotonic()
    name = f"{model.stem} {target} " + " ".join(f"--{key} {value:g}" for key, value in goal.items())
    try:
        result = build(str(model), folder / "design", target=target, **goal)  # type: ignore[arg-type]
    except InputError as error:
        return f"{name}: {error}"
    built = time.monotonic() - started
    found = synthesize(folder / "design" / "top.v", "top", device, workdir=folder / "synth")
    cost = result["estimate"]
    pairs = [f"{key} {_number(cost[key])}/{_number(found[key])}" for key in RESOURCES]
    shares = {key: found[key] / device.capacity[key] for key in RESOURCES if device.capacity[key]}
    fullest = max(shares, key=shares.__getitem__)
    asked = result["goal"].get("interval", "-")
    interval = f"{result['initiation_interval']:,}"
    if verify:
        interval += f"/{_measured(folder / 'design'):,}"
    return (
        f"{name}: {', '.join(pairs)}; {fullest} {shares[fullest]:.0%}; interval {interval} "
        f"(asked {asked}), {result['fps']:,.1f} frames/s at {result['clock_mhz']:g} MHz; "
        f"built in {built:.0f} s, synthesised in {found['seconds']:.0f} s"
    )


def _measured(directory: Path) -> int:
    """The initiation interval in simulation."""
    from tercet.sim.verify import verify

    return int(verify(directory, images=6)["initiation_interval"])


def _number(value: Any) -> str:
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}"


def main() -> None:
    """Print a line for each graph, target and goal as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graphs", type=Path, nargs="*", metavar="GRAPH.json")
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--fps", type=float, default=50.0)
    parser.add_argument("--fit", type=float, default=0.8)
    parser.add_argument("--verify", action="store_true", help="measure the interval on Verilator")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for model in args.graphs or [_digits(Path(folder))]:
            for target in args.targets:
                for goal in ({"fps": args.fps}, {"fit": args.fit}):
                    work = Path(tempfile.mkdtemp(dir=folder))
                    print(row(model, target, goal, work, args.verify), flush=True)


def _digits(folder: Path) -> Path:
    """The digits network, where no graph is given."""
    from tercet.quant import serialize
    from tercet.quant.models.digits import digits_network

    path = folder / "digits.json"
    serialize.save(digits_network(0), path)
    return path


if __name__ == "__main__":
    main()
