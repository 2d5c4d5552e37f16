"""Campaigns of the software engine: tensor faults of a law, or single bits, on the integer graph.

No circuit runs and nothing has a time: a rate here is P(class | one inference with the law's
faults), or P(class | one bit). docs/tensor_faults.md says what the laws mean.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..quant import serialize
from ..quant.errors import InputError
from ..quant.faults import (
    BitBias,
    BitErrors,
    Law,
    Mibb,
    PermanentPe,
    StuckBits,
    StuckCells,
    Tensor,
    TensorFaults,
    draw,
)
from ..quant.faults.single import single_bits
from ..quant.ir import Graph, IntArray
from ..quant.names import printable
from . import expected, manifest, statistics
from .engines.software import Bytes, SoftwareEngine
from .outcomes import Outcome
from .schedule import accumulator_bits

__all__ = ["LAWS", "TENSORS", "software_campaign"]

Json = dict[str, Any]
Progress = Callable[..., None]

#: Law -> its usual rate; `single` has none.
LAWS: dict[str, float | None] = {
    "single": None,
    "ber": 1e-4,
    "mibb": 1e-4,
    "ibb": 1e-4,
    "permanent": 1e-4,
    "adsaf": 0.08,
    "adsaf-bit": 0.1,
}
#: Words that `single` strikes; `ber` strikes weights, biases and activations.
TENSORS = {
    kind.name.lower().replace("_", "-"): kind for kind in Tensor if kind != Tensor.PREACTIVATION
}
STORED = ("weight", "bias", "activation")
CLASSES = (Outcome.SDC_CRITICAL, Outcome.SDC_TOLERABLE, Outcome.MASKED)


def software_campaign(
    directory: Path,
    *,
    law: str = "single",
    rate: float | None = None,
    layer: str | None = None,
    tensor: str | None = None,
    faults: int = 10_000,
    inputs: int = 32,
    seed: int = 0,
    confidence: float = 0.95,
    device: str | None = None,
    progress: Progress | None = None,
) -> Json:
    """Run `faults` experiments, write DIR/campaigns/<id>/, return the report.

    `law` is a key of `LAWS`, `rate` its parameter, `layer` the only layer hit (default: all that
    the law strikes), `tensor` a key of `TENSORS` for the laws `single` (default accumulator) and
    `ber` (default weight). Experiment i is on frame i modulo `inputs` of DIR/vectors.npz. `device`
    None is NumPy, else a torch device; the outcomes are the same. The folder holds report.json and
    faults.npz (`TensorFaults.load`). Raises InputError naming the option.
    """
    _check(law, rate, tensor, faults, inputs, confidence)
    rate = LAWS[law] if rate is None else rate
    graph, frames, acc_bits = _opened(Path(directory), inputs)
    frame = np.arange(faults) % len(frames)
    layers = None if layer is None else [layer]
    kind = TENSORS[tensor or ("weight" if law == "ber" else "accumulator")]
    if rate is None:
        chosen = single_bits(graph, frame, kind, seed=seed, layers=layers, acc_bits=acc_bits)
    else:
        drawn = _law(law, rate, kind)
        chosen = draw(drawn, graph, frame, seed=seed, layers=layers, acc_bits=acc_bits)
    engine = SoftwareEngine(graph, frames, device, acc_bits)
    finished = 0

    def more(count: int) -> None:
        nonlocal finished
        finished += count
        if progress is not None:
            progress("inferences", finished, faults)

    began = time.perf_counter()
    outcome = engine.run(chosen, more).outcome
    seconds = time.perf_counter() - began
    asked = {"law": law, "rate": rate, "layer": layer, "faults": faults, "seed": seed}
    asked |= {"tensor": kind.name.lower() if law in ("single", "ber") else None}
    report = {
        "engine": "software",
        "device": device or "numpy",
        "seconds": seconds,
        "rate_per_s": faults / seconds,
        **asked,
        **_rates(chosen, outcome, len(frames), confidence, seed),
        "by_layer": _by_layer(chosen, outcome, confidence),
        "by_bit": _by_bit(chosen, outcome) if law == "single" else {},
    }
    return _kept(Path(directory), report, asked | {"frames": _digest(frames)}, chosen)


def _check(
    law: str, rate: float | None, tensor: str | None, faults: int, inputs: int, confidence: float
) -> None:
    if law not in LAWS:
        raise InputError(f"law must be one of {', '.join(LAWS)}, not {printable(law)}")
    if law == "single" and rate is not None:
        raise InputError("law single has no rate: every inference has one fault")
    if rate is not None and not 0 < rate <= 1:
        raise InputError("rate must lie in 0..1 and not be 0")
    allowed = {"single": tuple(TENSORS), "ber": STORED}.get(law, ())
    if tensor is not None and tensor not in allowed:
        what = f"must be one of {', '.join(allowed)}" if allowed else "is fixed by the law"
        raise InputError(f"tensor {what}; law {law} was given {printable(tensor)}")
    if faults < 1 or inputs < 1:
        raise InputError("faults and inputs must be at least 1")
    if not 0 < confidence < 1:
        raise InputError("confidence must lie between 0 and 1")


def _law(law: str, rate: float, tensor: Tensor) -> Law:
    match law:
        case "ber":
            return BitErrors(rate, tensor)
        case "mibb":
            return Mibb(rate)
        case "ibb":
            return BitBias(rate)
        case "permanent":
            return PermanentPe(rate)
        case "adsaf":
            return StuckCells(rate)
        case _:
            return StuckBits(rate)


def _opened(directory: Path, inputs: int) -> tuple[Graph, IntArray, dict[str, int]]:
    """Graph, frames and the circuit's widths of accumulators."""
    found = manifest.load(directory)
    path = directory / "graph.json"
    if not path.is_file():
        raise InputError(f"{path}: is missing; the software engine runs the integer graph")
    graph = serialize.load(path)
    frames = expected.load_frames(directory / "vectors.npz", graph)
    return graph, frames[:inputs], accumulator_bits(found)


def _group(outcome: Bytes, confidence: float) -> Json:
    counts = np.bincount(outcome, minlength=len(Outcome))
    critical, total = int(counts[Outcome.SDC_CRITICAL]), len(outcome)
    low, high = statistics.wilson(critical, total, confidence)
    rate = {"avf": critical / total, "low": low, "high": high, "confidence": confidence}
    return {
        "experiments": total,
        "outcomes": {kind.label: int(counts[kind]) for kind in CLASSES},
        "sdc_critical": rate | {"vulnerable_bit_cycles": None},
    }


def _rates(chosen: TensorFaults, outcome: Bytes, inputs: int, confidence: float, seed: int) -> Json:
    """Counts and rates of all experiments, with the interval over inputs."""
    result = _group(outcome, confidence)
    critical = outcome == Outcome.SDC_CRITICAL
    used = np.unique(chosen.frame)
    events = np.bincount(chosen.frame, critical, minlength=inputs).astype(np.int64)[used]
    trials = np.bincount(chosen.frame, minlength=inputs)[used]
    counts = statistics.Counts(events, trials)
    low, high = statistics.cluster_interval(counts, confidence, seed)
    result["sdc_critical"] |= {"low_inputs": low, "high_inputs": high}
    notes = []
    if len(used) < statistics.ENOUGH_INPUTS:
        enough = statistics.ENOUGH_INPUTS
        notes.append(f"{len(used)} inputs: an interval over inputs needs {enough}")
    without = len(outcome) - len(np.unique(chosen.experiment))
    if without:
        notes.append(f"{without} inferences without any fault")
    return result | {
        "detection_coverage": None,
        "exhaustive": False,
        "inputs": len(used),
        "words_changed": len(chosen.experiment),
        "per_input": {
            "index": used.tolist(),
            "experiments": trials.tolist(),
            "sdc_critical": events.tolist(),
        },
        "audit": {"sampled": 0, "disagreements": 0, "differing": []},
        "notes": notes,
    }


def _by_layer(chosen: TensorFaults, outcome: Bytes, confidence: float) -> Json:
    """Inferences with a fault in the layer; those of several layers count for each."""
    found = {}
    for number, name in enumerate(chosen.layers):
        mine = chosen.layer == number
        experiments = np.unique(chosen.experiment[mine])
        if len(experiments):
            words = {"words_changed": int(mine.sum())}
            found[name] = words | _group(outcome[experiments], confidence)
    return found


def _by_bit(chosen: TensorFaults, outcome: Bytes) -> Json:
    """For each layer and bit position the classes of single flips."""
    bit = np.log2(chosen.value).astype(np.int64)
    found: Json = {}
    for number, name in enumerate(chosen.layers):
        rows = []
        for place in np.unique(bit[chosen.layer == number]).tolist():
            mine = (chosen.layer == number) & (bit == place)
            counts = np.bincount(outcome[chosen.experiment[mine]], minlength=len(Outcome))
            classes = {kind.label: int(counts[kind]) for kind in CLASSES}
            rows.append({"bit": place, "experiments": int(mine.sum())} | classes)
        if rows:
            found[name] = rows
    return found


def _digest(frames: IntArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()


def _kept(directory: Path, report: Json, asked: Json, chosen: TensorFaults) -> Json:
    """Keep the report and its faults under an id made of what the outcomes depend on."""
    graph = (directory / "graph.json").read_bytes()
    text = json.dumps(asked, sort_keys=True).encode() + graph
    report["id"] = f"software-{hashlib.sha256(text).hexdigest()[:12]}"
    folder = directory / "campaigns" / report["id"]
    folder.mkdir(parents=True, exist_ok=True)
    chosen.save(folder / "faults.npz")
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report
