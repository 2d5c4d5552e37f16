"""The fast engines on a recorded run: they replay its inputs and compare all outputs."""

from __future__ import annotations

import functools

import numpy as np

from ...quant.errors import ClaimError
from ..engines import trace as engine
from ..faults import Faults
from ..trace import Replayed, Trace
from .source import Source

__all__ = ["Replay"]


class Replay:
    """The cut model of a design with the inputs of its recorded run."""

    def __init__(self, source: Source, trace: Trace, start: int) -> None:
        self.source, self.trace, self.start = source, trace, start

    @functools.cached_property
    def model(self) -> engine.TraceModel:
        """The compiled model, proved to give the recorded outputs from the first fault on.

        Before, a register may start otherwise: an asynchronous reset that is active from the
        beginning has no edge in the simulation, but a level in the model.
        """
        model = engine.build(self.source.design, self.trace)
        self._check(engine.golden(model, self.trace))
        return model

    def _check(self, response: np.ndarray) -> None:  # type: ignore[type-arg]
        wrong = np.argwhere(response[self.start :] != self.trace.response[self.start :])
        if not len(wrong):
            return
        cycle, byte = (int(v) for v in wrong[0])
        ends = np.cumsum([port.bytes for port in self.trace.outputs])
        port = self.trace.outputs[int(np.searchsorted(ends, byte, side="right"))].name
        raise ClaimError(
            f"replay: output {port} differs from the simulation in cycle {cycle + self.start} "
            "without a fault; asynchronous controls must last over a clock edge, and the design "
            "must mean the same to Yosys and Verilator"
        )

    def run(self, name: str, faults: Faults, workers: int | None) -> Replayed:
        """The experiments on the engine `name`, native or bitparallel."""
        if name == "bitparallel":
            from ..engines import bitparallel

            return bitparallel.inject_trace(self.source.design, self.trace, faults, workers=workers)
        return engine.inject(self.model, self.trace, faults, workers=workers)
