"""What a search pays: accuracy, vulnerable bit-cycles, LUTs and cycles of one candidate.

Accuracy is exact (NumPy reference), LUTs and cycles come from the estimator, vulnerable bit-cycles
from a fault campaign on the candidate's Verilog or, in a second, from a prediction. Nothing is made
up: what cannot be built or measured raises.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..hw.configure import Fold
from ..quant import reference
from ..quant.errors import InputError
from ..quant.ir import ArgMax, Graph, IntArray
from ..quant.sensitivity import measure
from ..sim.statistics import widest
from . import targets
from .builder import build_design
from .design import Design, prepare
from .estimator import estimate_design
from .plan import Plan
from .resilience import resilience_estimate

__all__ = ["Objective", "Scores"]


@dataclass(frozen=True)
class Scores:
    """`accuracy` 0..1; `vulnerable_bit_cycles` with its interval; `luts`; `cycles` a frame.

    The exposure is None when the objective was asked for no upsets, the interval where the exposure
    is predicted.
    """

    accuracy: float
    luts: float
    cycles: int
    vulnerable_bit_cycles: float | None = None
    interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)

    def minimise(self) -> tuple[float, ...]:
        """The vector that a search minimises: error, vulnerable bit-cycles, LUTs, cycles."""
        exposure = () if self.vulnerable_bit_cycles is None else (self.vulnerable_bit_cycles,)
        return (1.0 - self.accuracy, *exposure, self.luts, float(self.cycles))


@dataclass(frozen=True)
class Objective:
    """Scores graphs on `x` [n, *input_shape] (integers) with `labels` [n].

    `faults` register upsets over the first `inputs` frames measure the exposure (0: not measured);
    `target` is the device of the estimate. `seed` makes the campaign repeatable. `predicted`: no
    campaign; the exposure is predicted from bit flips in the graph on `select_x`, or `x` without it
    (`resilience_estimate`).
    """

    x: IntArray
    labels: IntArray
    target: str = targets.DEFAULT
    faults: int = 2000
    inputs: int = 32
    seed: int = 0
    select_x: IntArray | None = field(default=None, repr=False)
    predicted: bool = False

    def __post_init__(self) -> None:
        if not len(self.x) or len(self.x) != len(self.labels):
            raise InputError(f"objective: {len(self.x)} inputs and {len(self.labels)} labels")
        if self.faults < 0:
            raise InputError(f"objective: faults must be >= 0, not {self.faults}")

    def __call__(
        self, graph: Graph, folding: Mapping[str, Fold] | None = None, plan: Plan | None = None
    ) -> Scores:
        """Score one candidate. Raises InputError where it cannot be built."""
        design = prepare(graph, folding, plan, self.select_x)
        cost = estimate_design(design, targets.find(self.target))
        if cost["luts"] is None:
            raise InputError(f"objective: {cost['source']}")
        accuracy, luts = self._accuracy(graph), float(cost["luts"])
        cycles = int(cost["initiation_interval"])
        if self.predicted:
            return Scores(accuracy, luts, cycles, self._predicted(design))
        if not self.faults:
            return Scores(accuracy, luts, cycles)
        rate, scale = self._exposure(design)
        low, high = widest(rate)
        interval = (low * scale, high * scale)
        return Scores(accuracy, luts, cycles, rate["vulnerable_bit_cycles"], interval)

    def _accuracy(self, graph: Graph) -> float:
        out = reference.run(graph, self.x).reshape(len(self.x), -1)
        top1 = out[:, 0] if isinstance(graph.node(graph.output), ArgMax) else out.argmax(axis=1)
        return float(np.mean(top1 == self.labels))

    def _predicted(self, design: Design) -> float:
        frames = self.x if self.select_x is None else self.select_x
        found = measure(design.graph, frames, seed=self.seed)
        return resilience_estimate(design, found).vulnerable_bit_cycles

    def _exposure(self, design: Design) -> tuple[dict[str, float], float]:
        """The campaign's critical-SDC rate, and the bit-cycles that a rate of one stands for."""
        from ..sim.campaign import run_campaign

        with tempfile.TemporaryDirectory(prefix="tercet-") as folder:
            directory = Path(folder) / "design"
            frames = self.x[: self.inputs]
            build_design(design, directory, target=self.target, frames=frames)
            report = run_campaign(
                directory, faults=self.faults, inputs=self.inputs, seed=self.seed, audit=0
            )
        return report["sdc_critical"], report["ff_bits"] * report["initiation_interval"]
