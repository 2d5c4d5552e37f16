"""The testbed of a design that is not ours: a recorded run of its bench, replayed by fast engines.

An experiment whose outputs never differ from the recorded ones is masked or latent: the bench, a
function of the outputs, has seen nothing. Where an output differs the bench may react, so it is run
again with the real upset, and its verdict decides.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...quant.errors import ClaimError, InputError
from ...quant.ir import IntArray
from ...quant.names import printable
from ..faults import Faults
from ..manifest import Words
from ..outcomes import Outcome
from ..sites import Register
from ..testbed import Verdicts
from ..trace import Replayed, Trace, Verdict
from . import bench as benches
from . import experiments
from .experiments import Played, Status
from .replay import Replay
from .source import Source, read
from .window import Holds, first_cycle

__all__ = ["ForeignTestbed"]

Json = dict[str, Any]
More = Callable[[int], None] | None


class ForeignTestbed:
    """A Verilog design with a cocotb bench. One inference is one run of the bench from `window[0]`
    on; there is one input, number 0."""

    engines = ("native", "bitparallel", "cocotb")

    def __init__(self, bench: benches.Bench, trace: Trace, window: tuple[int, str]) -> None:
        design = bench.source.design
        self.bench, self.trace = bench, trace
        self.registers = tuple(_labelled(one, bench.source.top) for one in design.registers)
        self.numbers, self.space = design.bit_numbers, design.space
        self.window = (window[0], trace.cycles)
        self.interval = float(trace.cycles - window[0])
        self.inputs: IntArray = np.zeros(1, np.int64)
        self.holds = Holds(bench.source, trace)
        self._replay = Replay(bench.source, trace)
        rows = trace.stimulus.tobytes() + trace.response.tobytes()
        self.origin: Json = {
            "design": bench.source.digest,
            "bench": hashlib.sha256(bench.path.read_bytes()).hexdigest(),
            "inputs_digest": hashlib.sha256(rows).hexdigest(),
            "window": {"cycles": trace.cycles, "from": window[0], "why": window[1]},
        }

    @classmethod
    def open(
        cls,
        verilog: Sequence[Path],
        *,
        top: str,
        clock: str,
        bench: Path,
        flag: str | None = None,
        reset: str | None = None,
        first: int | None = None,
        max_cycles: int = benches.MAX_CYCLES,
        include: Sequence[Path] = (),
        define: Sequence[str] = (),
    ) -> ForeignTestbed:
        """Read the design, compile it for `bench` (a cocotb module) and run it without a fault.

        Faults strike from cycle `first` on (default: after the reset, see `first_cycle`); `flag` is
        an output that reports an error. Compiles and runs the code of whoever wrote the files.
        Raises InputError for bad files and options, ClaimError if the bench fails without a fault.
        """
        source = read(verilog, top, clock, include=include, define=define)
        made = benches.build(source, bench, flag=flag, max_cycles=max_cycles)
        trace = benches.record(made)
        window = first_cycle(source, trace, reset, first)
        settled = min(window[0], Holds(source, trace).first_free)
        testbed = cls(made, dataclasses.replace(trace, settled=settled), window)
        recipe: Json = {"verilog": [str(path) for path in verilog], "bench": str(bench)}
        recipe |= {"include": [str(path) for path in include], "define": list(define)}
        recipe |= {"top": top, "clock": clock, "flag": flag, "reset": reset, "first": first}
        testbed.origin["testbed"] = {"kind": "foreign"} | recipe | {"max_cycles": max_cycles}
        return testbed

    @classmethod
    def reopen(cls, recipe: Json) -> ForeignTestbed:
        """The testbed whose `origin` holds the recipe."""
        options = {key: value for key, value in recipe.items() if key != "kind"}
        for key in ("verilog", "include"):
            options[key] = [Path(path) for path in options[key]]
        return cls.open(options.pop("verilog"), **options | {"bench": Path(recipe["bench"])})

    @classmethod
    def check_engine(cls, engine: str) -> None:
        """InputError for an engine that there is not."""
        if engine not in cls.engines:
            names = ", ".join(cls.engines)
            raise InputError(f"engine must be one of {names}, not {printable(engine)}")

    @property
    def source(self) -> Source:
        """The design."""
        return self.bench.source

    def input_of(self, cycle: IntArray) -> IntArray:
        """Zero for every cycle [n]: a bench is one input."""
        return np.zeros(len(cycle), np.int64)

    def run(
        self, engine: str, faults: Faults, *, workers: int | None = None, progress: More = None
    ) -> Verdicts:
        """As `Testbed.run`. An upset of a bit that an asynchronous control holds is masked.

        ClaimError where replay and bench see different outputs.
        """
        self.check_engine(engine)
        outcome = np.full(len(faults), Outcome.MASKED, np.uint8)
        inferences = np.zeros(len(faults), np.int64)
        effective = self.holds.effective(faults)
        rows = np.flatnonzero(np.diff(effective.first) > 0)
        left = effective.take(rows)
        if progress is not None:
            progress(len(faults) - len(rows))
        if not len(rows):
            return Verdicts(outcome, inferences)
        if engine == "cocotb":
            played = self._play(left, workers, progress)
            outcome[rows] = _judge(played)
            inferences[rows] = -1
            return Verdicts(outcome, inferences)
        seen = self._replay.run(engine, left, workers)
        latent, visible = seen.verdict == Verdict.LATENT, seen.verdict == Verdict.VISIBLE
        outcome[rows[latent]] = Outcome.LATENT
        inferences[rows[latent | visible]] = -1
        if progress is not None:
            progress(len(rows) - int(visible.sum()))
        chosen = np.flatnonzero(visible)
        played = self._play(left.take(chosen), workers, progress)
        _check_same(seen, chosen, played)
        outcome[rows[chosen]] = _judge(played)
        return Verdicts(outcome, inferences)

    def _play(self, faults: Faults, workers: int | None, progress: More) -> Played:
        return experiments.play(self.bench, self.trace, faults, workers=workers, progress=progress)


def _labelled(register: Register, top: str) -> Register:
    """The register with its name for a role and its instance for a layer, where it has none; words
    of an array are one role."""
    instance = ".".join(register.bits[0].path[:-1]) or top
    role = register.role or re.sub(r"(\[\d+\])+$", "", register.name)
    return dataclasses.replace(register, role=role, layer=register.layer or instance)


def _judge(played: Played) -> Words:
    """Outcome [n] by the bench's verdict, the flag and the outputs."""
    passed, flagged = played.status == Status.PASSED, played.flagged != 0
    outcome = np.where(flagged, Outcome.DUE, Outcome.SDC_CRITICAL).astype(np.uint8)
    outcome[passed & (played.differs >= 0)] = Outcome.SDC_TOLERABLE
    outcome[passed & (played.differs < 0)] = Outcome.MASKED
    outcome[passed & flagged] = Outcome.FALSE_ALARM
    outcome[played.status == Status.HANG] = Outcome.HANG
    return outcome


def _check_same(seen: Replayed, chosen: IntArray, played: Played) -> None:
    """ClaimError unless an output differed in the bench's simulation in the same cycle as in the
    replay, or the bench ended before the end of that cycle."""
    wanted = seen.end_cycle[chosen]
    first = np.where(played.differs < 0, played.cycles, played.differs)
    wrong = np.flatnonzero(first > wanted)
    if len(wrong):
        raise ClaimError(
            f"an output differs in cycle {wanted[wrong[0]]} of the replay, not in the bench's "
            f"simulation ({len(wrong)} experiments)"
        )
