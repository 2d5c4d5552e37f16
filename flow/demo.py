"""The demo: a small network on scikit-learn's digits, from training to measured resilience.

One network, three designs: plain, checksummed, checksummed with the neurons worth 20 % of the MACs
in triple modular redundancy. Neurons are scored on the selection images; everything is judged on
the test images, which neither training, calibration nor selection has seen.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..hw.configure import Fold
from ..quant import datasets, reference
from ..quant.errors import InputError
from ..quant.ir import Conv2d, Dense, Graph
from ..quant.quantize import quantize_input
from .builder import build_design
from .design import prepare
from .plan import Checksum, Plan, Settings, Tmr

__all__ = ["VARIANTS", "area", "demo"]

Report = Callable[..., None]
Json = dict[str, Any]

SEED = 0
TARGET = "ecp5-85k"
FOLDS = (Fold(4, 3), Fold(8, 4), Fold(2, 2))
"""Of the two convolutions and the dense layer."""
VARIANTS: dict[str, Plan] = {
    "plain": Plan(),
    "checksum": Plan(Settings(Checksum(3))),
    "checksum+tmr": Plan(Settings(Checksum(3), Tmr(share=0.2))),
    "codes+watchdog": Plan(
        Settings(Checksum(3), control="parity", stream="parity", post="parity", weights="parity"),
        watchdog=True,
    ),
}


@dataclass(frozen=True)
class Effort:
    """How much the demo checks: test images, upsets, inputs they strike, upsets audited."""

    variants: tuple[str, ...]
    images: int
    faults: int
    inputs: int
    audit: int


FULL = Effort(tuple(VARIANTS), images=360, faults=100_000, inputs=48, audit=200)
QUICK = Effort(("checksum",), images=60, faults=2_000, inputs=32, audit=20)


def demo(out: Path, *, quick: bool = False, progress: Report | None = None) -> Json:
    """Run the demo in the folder `out`; the result is the `demo` JSON of the command line.

    Deterministic but for the times: seed 0 throughout. Raises InputError for a folder that cannot
    be written, ClaimError when a fault engine's own check fails.
    """
    began = time.perf_counter()
    tell = progress or _silent
    effort = QUICK if quick else FULL
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be created: {error.strerror}") from None
    tell("training")
    data = datasets.digits(SEED)
    graph, float_accuracy = _network(data)
    select_x = quantize_input(graph, data.select_x)
    test_x = quantize_input(graph, data.test_x)
    logits = reference.run(graph, test_x)
    builds: dict[str, Json] = {}
    for name in effort.variants:
        design = prepare(graph, folding(graph), VARIANTS[name], select_x)
        builds[name] = build_design(
            design,
            out / name,
            target=TARGET,
            frames=test_x[: effort.images],
            labels=data.test_y[: effort.images],
            progress=lambda what, *count, name=name: tell(f"{name}: {what}", *count),
        )
    results = _measure({name: out / name for name in effort.variants}, effort, tell)
    variants = [
        {"name": name, "build": builds[name], **{what: results[name, what] for what in TASKS}}
        for name in effort.variants
    ]
    _compare(variants)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "seed": SEED,
        "float_accuracy": float_accuracy,
        "int_accuracy": float((logits.argmax(axis=1) == data.test_y).mean()),
        "test_images": len(test_x),
        "variants": variants,
        "out": str(out),
    }


def _silent(*args: object) -> None:
    """No progress is shown."""


def _network(data: datasets.Digits) -> tuple[Graph, float]:
    """The trained and quantised network, and its accuracy before quantisation."""
    from ..quant.models.digits import digits_network, trained
    from ..quant.train import accuracy, predict

    scores = predict(trained("plain", SEED), data.test_x)
    return digits_network(SEED), float(accuracy(scores, data.test_y))


def folding(graph: Graph) -> dict[str, Fold]:
    """The committed folding: `FOLDS` for the layers with weights, one channel a cycle in pools."""
    linear = [node.name for node in graph if isinstance(node, Conv2d | Dense)]
    chosen = {node.name: Fold() for node in graph}
    return chosen | dict(zip(linear, FOLDS, strict=True))


def _verify(directory: Path, effort: Effort) -> Json:
    from ..sim.verify import verify
    from .synth import write_json

    result = verify(directory, images=effort.images, seed=SEED)
    write_json(directory / "verify.json", result)
    return result


def _inject(directory: Path, effort: Effort) -> Json:
    from ..sim.campaign import run_campaign

    return run_campaign(
        directory,
        faults=effort.faults,
        inputs=effort.inputs,
        audit=effort.audit,
        seed=SEED,
        workers=1,
    )


def _synth(directory: Path, effort: Effort) -> Json:
    from .synth import synth

    return synth(directory, target=TARGET)


TASKS: Mapping[str, Callable[[Path, Effort], Json]] = {
    "inject": _inject,
    "synth": _synth,
    "verify": _verify,
}


def _measure(
    directories: Mapping[str, Path], effort: Effort, tell: Report
) -> dict[tuple[str, str], Json]:
    """Every task on every design, two processes side by side, the longest tasks first."""
    found: dict[tuple[str, str], Json] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        running: dict[Future[Json], tuple[str, str]] = {
            pool.submit(task, directory, effort): (name, what)
            for what, task in TASKS.items()
            for name, directory in directories.items()
        }
        tell("measuring", 0, len(running))
        try:
            for done in as_completed(running):
                found[running[done]] = done.result()
                name, what = running[done]
                tell(f"measuring: {name} {what} done,", len(found), len(running))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def area(cost: Mapping[str, Any]) -> float:
    """One number for four resources: LUT + 0.5 FF + 100 DSP + 200 BRAM (of 18 kbit)."""
    weights = {"luts": 1.0, "ffs": 0.5, "dsps": 100.0, "brams": 200.0}
    return float(sum(weight * cost[key] for key, weight in weights.items()))


def _compare(variants: list[Json]) -> None:
    """Area and critical SDC of each design against the plain one, where it was built."""
    from ..sim.campaign import compare

    plain = next((v for v in variants if v["name"] == "plain"), None)
    for variant in variants:
        variant["area_overhead"] = variant["sdc_ratio"] = None
        if plain is not None:
            variant["area_overhead"] = area(variant["synth"]) / area(plain["synth"]) - 1
            variant["sdc_ratio"] = compare(variant["inject"], plain["inject"])
