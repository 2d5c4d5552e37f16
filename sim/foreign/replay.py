"""The fast engines on a recorded run: they replay its inputs and compare all outputs."""

from __future__ import annotations

import functools

from .. import native_model
from ..engines import trace as native
from ..faults import Faults
from ..native_model import TraceModel
from ..trace import Replayed, Trace
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

    def run(self, engine: str, faults: Faults, workers: int | None) -> Replayed:
        """The experiments on `engine`, native or bitparallel.

        ClaimError if the recorded outputs do not come again without a fault.
        """
        if engine == "bitparallel":
            from ..engines import bitparallel

            return bitparallel.inject_trace(self.source, self.trace, faults, workers=workers)
        return native.inject(self.model, self.trace, faults, workers=workers)
