"""How fast the loop is on one network: a 64-32-10 int8 perceptron on 8 x 4 multipliers.

Shows seconds for build, verify and synthesis, upsets a second of both fault engines, and estimates
a second. Run by `make bench`; takes about a minute. Numbers depend on the machine: compare runs on
one machine only.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tercet.flow.builder import build
from tercet.flow.estimator import estimate_command
from tercet.flow.synth import synth
from tercet.quant import ir, serialize
from tercet.sim.campaign import run_campaign
from tercet.sim.verify import verify

FOLD = """
[layer.hidden]
pe = 8
simd = 4

[layer.logits]
pe = 2
simd = 4
"""
SEED = 20
IMAGES = 32


def network() -> ir.Graph:
    """Random weights: speed does not depend on what the network knows."""
    rng = np.random.default_rng(SEED)
    scale = ir.Requantize(np.array([21000]), np.array([24]), ir.TensorType(7, False))
    hidden = ir.Dense(
        name="hidden",
        inputs=("x",),
        weight=rng.integers(-128, 128, (32, 64)),
        bias=rng.integers(-500, 500, 32),
        requantize=scale,
    )
    logits = ir.Dense(
        name="logits",
        inputs=("hidden",),
        weight=rng.integers(-128, 128, (10, 32)),
        bias=rng.integers(-500, 500, 10),
    )
    return ir.Graph("perceptron", "x", (64,), ir.TensorType(8, True), (hidden, logits), "logits")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of a call."""
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def main() -> None:
    """Print one line a step."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, design = str(folder / "graph.json"), folder / "design"
        serialize.save(network(), Path(model))
        (folder / "fold.toml").write_text(FOLD)
        inputs = np.random.default_rng(SEED).integers(-128, 128, (IMAGES, 64))
        np.savez(folder / "inputs.npz", x=inputs)
        fold, vectors = str(folder / "fold.toml"), folder / "inputs.npz"
        seconds, made = timed(lambda: build(model, design, fold=fold, vectors=vectors))
        cycles = made["initiation_interval"]
        print(f"build      {seconds:8.2f} s   one inference each {cycles} cycles")
        seconds, _ = timed(lambda: estimate_command(model, fold=fold))
        print(f"estimate   {1 / seconds:8.1f} a second")
        seconds, _ = timed(lambda: verify(design))
        print(f"verify     {seconds:8.2f} s   {IMAGES} images")
        for engine, faults in (("native", 100_000), ("cocotb", 200)):
            report = run_campaign(design, engine=engine, faults=faults, audit=0)
            print(f"inject     {report['rate_per_s']:8,.0f} upsets a second, {engine}")
        seconds, result = timed(lambda: synth(design, target="ecp5-85k"))
        print(f"synth      {seconds:8.2f} s   {result['luts']:,} LUTs on {result['target']}")


if __name__ == "__main__":
    main()
