"""What a campaign needs of a design under test: its sites, its fault-free run, its engines.

A campaign draws faults from the sites and cycles of a testbed and lets one of the testbed's engines
judge them. `StreamTestbed` is that of a build directory: frames back to back through two streams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..quant.errors import InputError
from ..quant.ir import IntArray
from ..quant.names import printable
from . import manifest, outcomes, recovery
from .engines import native
from .faults import Faults, Mode, Space
from .manifest import Manifest, Words
from .outcomes import Observed
from .sites import Register
from .steady import Prepared, Stalls, prepare

__all__ = ["StreamTestbed", "Testbed", "Verdicts"]

Json = dict[str, Any]
More = Callable[[int], None] | None


@dataclass(frozen=True)
class Verdicts:
    """What became of n experiments: `outcome` [n] of `Outcome`; `inferences` [n] results that were
    delivered from the upset until the state was golden again, -1 where it was not in the watch;
    `disorder` [n] of `Disorder`, None from a testbed whose results have no order;
    `detection_cycles` [n] from the first event to the first delivered beat with the error flag, -1
    none, and `critical` [n] whether some result, flagged or not, had another top-1 class
    (`outcomes.judge`); None from a testbed without such a flag."""

    outcome: Words
    inferences: IntArray
    disorder: Words | None = None
    detection_cycles: IntArray | None = None
    critical: Words | None = None


class Testbed(Protocol):
    """A design under test. Cycles count from the start of the fault-free run."""

    @property
    def registers(self) -> tuple[Register, ...]:
        """The registers, by name."""

    @property
    def numbers(self) -> Mapping[tuple[str, int], int]:
        """(cell, index) of a register's bit -> its number in `space`."""

    @property
    def space(self) -> Space:
        """The numbering of all targets."""

    @property
    def window(self) -> tuple[int, int]:
        """First cycle of the faults, and the one after the last."""

    @property
    def interval(self) -> float:
        """Cycles of one inference in the window."""

    @property
    def inputs(self) -> IntArray:
        """Numbers [k] of the inputs in their file."""

    @property
    def engines(self) -> tuple[str, ...]:
        """Names that `run` takes."""

    @property
    def origin(self) -> Json:
        """What the results depend on: {design, manifest, inputs_digest}, SHA-256 each, and
        `testbed`, all that `replay` needs to open it again (its `kind` is "stream")."""

    def input_of(self, cycle: IntArray) -> IntArray:
        """Number [n] of the input whose result is the next to be delivered in each cycle [n]."""

    def run(
        self, engine: str, faults: Faults, *, workers: int | None = None, progress: More = None
    ) -> Verdicts:
        """The experiments' verdicts, in their order, independent of `workers`. `progress` is told
        numbers of experiments that are done. Raises ClaimError where the engine proves wrong."""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check_fresh(found: Manifest) -> None:
    """InputError if the Verilog is not that of its manifest."""
    there = _digest(found.verilog.read_bytes())
    if there != found.design:
        raise InputError(
            f"{found.verilog} has hash {there[:12]}, {found.directory / 'manifest.json'} is of "
            f"{printable(found.design[:12])}; build the directory again"
        )


class StreamTestbed:
    """A build directory's design with frames one after the other, in the steady state."""

    engines: tuple[str, ...] = ("native", "bitparallel", "exhaustive", "cocotb")

    def __init__(self, prepared: Prepared, recipe: Json) -> None:
        design, play, found = prepared.model.design, prepared.stimulus, prepared.model.manifest
        self.prepared = prepared
        self.registers, self.numbers = design.registers, design.bit_numbers
        self.space = design.space
        self.window = play.window(prepared.golden)
        self.interval = prepared.initiation_interval
        self.inputs = play.inputs
        self.origin: Json = {
            "design": found.design,
            "manifest": _digest((found.directory / "manifest.json").read_bytes()),
            "inputs_digest": _digest(play.words.tobytes()),
            "testbed": {"kind": "stream"} | recipe,
        }

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        inputs: int = 32,
        first_input: int = 0,
        inputs_file: Path | None = None,
        stalls: Stalls | None = None,
    ) -> StreamTestbed:
        """The testbed of a build directory with `inputs` frames of `inputs_file` (default
        DIR/vectors.npz) from `first_input` on.

        Raises InputError for a bad or stale directory or bad inputs, ClaimError if the design is
        wrong without a fault.
        """
        if inputs < 1:
            raise InputError("inputs must be at least 1")
        _check_fresh(manifest.load(directory))
        recipe: Json = {"inputs": inputs, "first_input": first_input}
        recipe["inputs_file"] = None if inputs_file is None else str(inputs_file)
        recipe["stalls"] = None if stalls is None else vars(stalls)
        return cls(prepare(directory, inputs_file, inputs, first_input, stalls), recipe)

    @classmethod
    def reopen(cls, directory: Path, recipe: Json) -> StreamTestbed:
        """The testbed whose `origin` holds the recipe."""
        path, stalls = recipe["inputs_file"], recipe["stalls"]
        return cls.open(
            directory,
            inputs=recipe["inputs"],
            first_input=recipe["first_input"],
            inputs_file=None if path is None else Path(path),
            stalls=None if stalls is None else Stalls(**stalls),
        )

    @classmethod
    def check_engine(cls, engine: str) -> None:
        """InputError for an engine that there is not."""
        if engine not in cls.engines:
            names = ", ".join(cls.engines)
            raise InputError(f"engine must be one of {names}, not {printable(engine)}")

    def input_of(self, cycle: IntArray) -> IntArray:
        """Number [n] of the input whose frame is the next to be delivered in each cycle [n]."""
        frame = np.searchsorted(self.prepared.golden.done, cycle)
        return np.asarray(self.inputs[frame - self.prepared.stimulus.warm], np.int64)

    def run(
        self, engine: str, faults: Faults, *, workers: int | None = None, progress: More = None
    ) -> Verdicts:
        """As `Testbed.run`; InputError for an engine that there is not.

        Engine `exhaustive` takes flips of flip-flop bits, best of all bits in adjacent cycles.
        """
        if engine == "exhaustive":
            return self._collapse(faults, workers, progress)
        observed = self._observe(engine, faults, workers, progress)
        golden, output = self.prepared.golden.words, self.prepared.model.manifest.output
        outcome, critical = outcomes.judge(observed, golden, output)
        last = self.prepared.watched(faults)[1] - 1
        disorder = recovery.disorder(observed, golden, last)
        cycles = _since(faults, observed.detected)
        return Verdicts(outcome, self._inferences(faults, observed), disorder, cycles, critical)

    def _collapse(self, faults: Faults, workers: int | None, progress: More) -> Verdicts:
        """By dynamic fault collapsing of all flips in the cycles of `faults`."""
        from .engines import exhaustive

        single = len(faults) == len(faults.target) and (faults.mode == Mode.FLIP).all()
        if not len(faults) or not single or faults.target.max() >= self.space.ff_bits:
            raise InputError("engine exhaustive: single upsets of flip-flop bits only")
        cycle, bit = faults.start, faults.target
        start, stop = int(cycle.min()), int(cycle.max()) + 1
        fates = exhaustive.run(self.prepared, start, stop, workers=workers)
        broken = fates.observed.ends != outcomes.End.GOLDEN
        malformed = (fates.observed.flags & outcomes.FrameFlag.MALFORMED) != 0
        broken[fates.observed.experiment[malformed]] = True
        fate = fates.fate[cycle - start, bit]
        rows = np.flatnonzero((fate >= 0) & broken[fate])
        last = self.prepared.watched(faults.take(rows))[1] - 1
        disorder = np.zeros(len(faults), np.uint8)
        seen = fates.of(cycle[rows], bit[rows])
        disorder[rows] = recovery.disorder(seen, self.prepared.golden.words, last)
        if progress is not None:
            progress(len(faults))
        at = (cycle - start, bit)
        cycles = _since(faults, fates.detected[at].astype(np.int64))
        critical, inferences = fates.critical[at], fates.inferences[at]
        return Verdicts(fates.outcome[at], inferences, disorder, cycles, critical)

    def _observe(
        self, engine: str, faults: Faults, workers: int | None, progress: More
    ) -> Observed:
        self.check_engine(engine)
        if engine == "native":
            inject = native.inject
        elif engine == "bitparallel":
            from .engines import bitparallel

            inject = bitparallel.inject
        else:
            from .engines import cocotb  # needs cocotb installed

            inject = cocotb.inject
        return inject(self.prepared, faults, workers=workers, progress=progress)

    def _inferences(self, faults: Faults, observed: Observed) -> IntArray:
        """Frames that the fault-free run delivers meanwhile; -1 if the state is not golden."""
        done = self.prepared.golden.done
        count = np.searchsorted(done, observed.end_cycle) - np.searchsorted(done, faults.cycle)
        return np.where(observed.ends == outcomes.End.GOLDEN, count, -1)


def _since(faults: Faults, cycle: IntArray) -> IntArray:
    """Cycles [n] from the first event of each experiment to `cycle`; -1 where that is -1."""
    return np.where(cycle >= 0, cycle - faults.cycle, -1)
