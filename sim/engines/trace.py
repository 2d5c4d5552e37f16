"""The native engine on a recorded run: the inputs are replayed, whatever the design answers.

For designs that are not ours. An experiment whose outputs never differ from the recorded ones is
masked, or latent if its state is not golden at the end of the trace: a bench cannot have seen it.
One whose outputs differ stops there, since a bench may react.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...quant.errors import ClaimError, InputError
from ...quant.ir import IntArray
from ..faults import Faults
from ..native_model import TraceModel
from ..outcomes import End
from ..trace import Replayed, Trace, Verdict
from . import native, native_process
from .native_process import Setup

__all__ = ["golden", "inject", "register_values"]

VERDICTS = {End.GOLDEN: Verdict.GOLDEN, End.BOUND: Verdict.LATENT, End.VISIBLE: Verdict.VISIBLE}


def golden(model: TraceModel, trace: Trace) -> None:
    """Replay the trace without a fault; ClaimError naming the first cycle and output that are not
    as recorded, InputError for a trace of other ports."""
    native_process.golden(_setup(model, trace), lambda *_: None)


def register_values(model: TraceModel, trace: Trace, cycles: IntArray) -> list[list[int]]:
    """Golden values at the start of each of `cycles`, in the order of `cut.registers`."""
    raw = native_process.states(_setup(model, trace), cycles)
    return native.unpacked(model.source.design, raw, len(cycles))


def inject(
    model: TraceModel,
    trace: Trace,
    faults: Faults,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Replayed:
    """Run the experiments, `workers` processes at a time (default: one a core), each until an
    output differs, its state is golden again, or the trace ends.

    The result does not depend on `workers`. `progress` is called with the number of experiments
    finished. InputError for faults that are none (`Faults.check`) or a trace of other ports;
    ClaimError if the trace is not reproduced or a fault did not land.
    """
    faults.check(model.source.design.space, trace.cycles)
    limits = np.full(len(faults), trace.cycles)
    parts, order = native_process.run(
        _setup(model, trace),
        faults,
        limits,
        lambda *_: None,
        workers=workers,
        progress=progress,
    )
    back = np.argsort(order)
    ends = np.concatenate([part.ends for part in parts])[back]
    end_cycle = np.concatenate([part.end_cycle for part in parts])[back]
    if (ends == End.NOT_LANDED).any():
        raise ClaimError("native engine: a fault did not change exactly its bits of the state")
    table = np.zeros(len(End), np.uint8)
    for end, verdict in VERDICTS.items():
        table[end] = verdict
    return Replayed(table[ends], end_cycle)


def _setup(model: TraceModel, trace: Trace) -> Setup:
    source = model.source
    if (trace.inputs, trace.outputs) != (source.inputs, source.outputs):
        raise InputError("the trace was recorded on a design with other ports; record it again")
    return Setup(model.program, [trace.cycles, trace.settled], [trace.stimulus, trace.response])
