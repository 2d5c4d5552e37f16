"""Finalists: members of the front made into circuits, and every objective measured.

Predicted: what the search saw (error on the select images, resilience and cost estimates).
Measured: error on the test images by the Verilog, upsets that strike its registers, area by
synthesis, cycles by the benches.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...quant.ir import ArgMax, Graph, IntArray
from ...sim.statistics import widest
from ..builder import build_design
from .archive import Record
from .evaluate import Evaluator
from .members import test_frames
from .objectives import COSTS
from .pareto import spread

__all__ = ["FAULTS", "MEASURED", "finalists"]

Json = dict[str, Any]
Tell = Callable[..., None]

FAULTS = 20_000
INPUTS, AUDITED, VERIFIED = 48, 20, 32
"""Images that upsets strike; upsets repeated in cocotb; images compared tap by tap."""

MEASURED = ("error", "vulnerable_bit_cycles", *COSTS)


def finalists(
    evaluator: Evaluator,
    front: Sequence[Record],
    folder: Path,
    count: int,
    *,
    faults: int = FAULTS,
    workers: int = 1,
    progress: Tell | None = None,
) -> list[Json]:
    """Build, verify, strike and synthesise `count` members spread over the front.

    Each gives {number, genome, build, rows: [{objective, predicted, measured, low, high}], verify,
    failure}; the circuits are under `folder`/finalists/. Raises what the flow raises.
    """
    chosen = spread(front, evaluator.space.objectives, count)
    tell = progress or (lambda *_: None)
    tell("measuring finalists", 0, len(chosen))
    context = multiprocessing.get_context("spawn")
    results: dict[int, Json] = {}
    with ProcessPoolExecutor(min(workers, len(chosen)), mp_context=context) as pool:
        running = {
            pool.submit(_measure, evaluator, record, folder, faults): record for record in chosen
        }
        try:
            for task in as_completed(running):
                results[running[task].number] = task.result()
                tell("measuring finalists", len(results), len(chosen))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [results[record.number] for record in chosen]


def _measure(evaluator: Evaluator, record: Record, folder: Path, faults: int) -> Json:
    """One finalist, all the way down."""
    from ...sim.campaign import run_campaign
    from ...sim.clocked import run_frames
    from ...sim.verify import verify
    from ..synth import synth, write_json

    space = evaluator.space
    every = tuple(dict.fromkeys((*space.objectives, *MEASURED)))
    whole = Evaluator(replace(space, objectives=every, constraints={}), evaluator.folder)
    candidate = space.decode(np.array(record.encoding))
    design = whole.design(candidate)
    predicted = whole.evaluate(candidate)
    frames, labels = test_frames(whole, design)
    place = folder / "finalists" / str(record.number)
    build_design(design, place, target=space.target, frames=frames, labels=labels)
    checked = verify(place, images=VERIFIED)
    write_json(place / "verify.json", checked)
    mapped = synth(place, target=space.target)
    struck = run_campaign(
        place, faults=faults, inputs=INPUTS, audit=AUDITED, seed=space.search.seed, workers=1
    )
    measured: Json = {name: mapped[name] for name in ("luts", "ffs", "dsps", "brams")}
    measured |= {name: checked[name] for name in ("latency_cycles", "initiation_interval")}
    measured["error"] = _error(design.graph, run_frames(place, frames), labels)
    rate = struck["sdc_critical"]
    measured["vulnerable_bit_cycles"] = rate["vulnerable_bit_cycles"]
    scale = struck["ff_bits"] * struck["initiation_interval"]
    low, high = widest(rate)
    limits = {"vulnerable_bit_cycles": (low * scale, high * scale)}
    return {
        "number": record.number,
        "genome": dict(record.genome),
        "build": str(place),
        "rows": [_row(name, predicted[name], measured.get(name), limits) for name in every],
        "verify": {key: checked[key] for key in ("images", "mismatches")},
        "test_images": len(frames),
        "experiments": struck["experiments"],
        "audit": struck["audit"],
        "failure": _failure(record.number, checked, struck),
    }


def _row(name: str, predicted: float, measured: float | None, limits: Json) -> Json:
    low, high = limits.get(name, (None, None))
    row = {"objective": name, "predicted": predicted, "measured": measured}
    return row | {"low": low, "high": high}


def _error(graph: Graph, outputs: IntArray, labels: IntArray) -> float:
    """Share of images [n] whose top-1 class is not the label."""
    flat = outputs.reshape(len(outputs), -1)
    is_index = isinstance(graph.node(graph.output), ArgMax)
    return float(np.mean((flat[:, 0] if is_index else flat.argmax(axis=1)) != labels))


def _failure(number: int, checked: Json, struck: Json) -> str | None:
    """Which claim of the flow does not hold, if one does not."""
    failed = [bench["name"] for bench in checked["benches"] if not bench["passed"]]
    if failed or checked["mismatches"]:
        return f"finalist {number}: the Verilog differs from the reference ({', '.join(failed)})"
    if struck["audit"]["disagreements"]:
        return f"finalist {number}: faults went another way in cocotb"
    return None
