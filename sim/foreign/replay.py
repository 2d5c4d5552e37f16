"""The fast engines on a recorded run: they replay its inputs and compare all outputs."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from ...quant.errors import ClaimError
from .. import gates_build, native_model
from ..engines import bitparallel
from ..engines import trace as native
from ..faults import Faults
from ..manifest import Words
from ..native_model import TraceModel
from ..outcomes import End
from ..trace import Replayed, Trace, Verdict
from .source import Source

__all__ = ["Replay"]


class Replay:
    """The cut model of a design with the inputs of its recorded run."""

    def __init__(self, source: Source, trace: Trace) -> None:
        self.source, self.trace = source, trace

    @functools.cached_property
    def model(self) -> TraceModel:
        """The compiled model of the native engine."""
        return native_model.build_replayed(self.source)

    @functools.cached_property
    def lanes(self) -> tuple[gates_build.Program, bitparallel.Trace]:
        """The compiled network of the bit-parallel engine, and the run as bits of its ports."""
        program = gates_build.build(self.source.design.cut, self.source.top)
        inputs, outputs = (self._bits(ports) for ports in (program.inputs, program.outputs))
        compared = np.ones_like(outputs)
        compared[: self.trace.settled] = 0
        none = np.zeros(outputs.shape[1], np.uint8)
        ignored = np.zeros_like(outputs)
        return program, bitparallel.Trace(0, inputs, outputs, compared, ignored, none, none)

    def _bits(self, ports: Sequence[tuple[str, int]]) -> Words:
        """Bits uint8 [cycles, bits] of ports (name, width), the first one first; a port that is
        not in the trace (the clock) is 0."""
        known = {port.name for port in self.trace.inputs + self.trace.outputs}
        columns = [np.zeros((self.trace.cycles, 0), np.uint8)]
        for name, width in ports:
            if name in known:
                raw = np.ascontiguousarray(self.trace.column(name))
                columns.append(np.unpackbits(raw, axis=1, count=width, bitorder="little"))
            else:
                columns.append(np.zeros((self.trace.cycles, width), np.uint8))
        return np.hstack(columns)

    def run(self, engine: str, faults: Faults, workers: int | None) -> Replayed:
        """The experiments on `engine`, native or bitparallel.

        ClaimError if the recorded outputs do not come again without a fault, or a fault does not
        land.
        """
        if engine == "native":
            return native.inject(self.model, self.trace, faults, workers=workers)
        program, bits = self.lanes
        limit = np.full(len(faults), self.trace.cycles)
        seen = bitparallel.sweep(program, bits, faults, limit, workers=workers)
        if (seen.ends == End.NOT_LANDED).any():
            raise ClaimError("bit-parallel engine: a flip did not change its bit of the state")
        verdict = np.full(len(faults), Verdict.GOLDEN, np.uint8)
        verdict[seen.ends == End.BOUND] = Verdict.LATENT
        verdict[seen.ends == bitparallel.DIVERGED] = Verdict.VISIBLE
        return Replayed(verdict, seen.end_cycle)
