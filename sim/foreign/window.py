"""Which cycles of a recorded run faults strike, and which bits an asynchronous control holds."""

from __future__ import annotations

import numpy as np

from ...quant.errors import InputError
from .. import state_cells
from ..faults import Faults, Mode
from ..trace import Flags, Trace
from .source import Source

__all__ = ["Holds", "first_cycle"]

#: Names of a synchronous reset, without the letters that say it is active low.
_RESETS = ("rst", "reset", "srst", "sreset", "arst", "areset", "rst_i", "reset_i", "i_rst")


def first_cycle(
    source: Source, trace: Trace, reset: str | None, given: int | None
) -> tuple[int, str]:
    """First cycle of the faults, and why.

    It is `given`, else the cycle after the first span in which the reset is active: input `reset`
    (active low if its name ends with n, ni or n_i, or if flip-flops use it so), else any
    asynchronous control, else the input that has a reset's name, else cycle 0. InputError where no
    cycle is left.
    """
    if given is not None:
        free = Holds(source, trace).first_free
        if given < free:
            raise InputError(f"--from {given}: the asynchronous reset holds until cycle {free - 1}")
        start, why = given, "as given"
    else:
        active, why = _reset(source, trace, reset)
        start = _after_first_span(active)
    if not 0 <= start < trace.cycles:
        raise InputError(
            f"no cycle from {start} on: the bench ends after {trace.cycles}; give --from CYCLE"
        )
    return start, why


def _after_first_span(active: Flags) -> int:
    """The cycle after the first span of active cycles; 0 if none is."""
    if not active.any():
        return 0
    begin = int(np.argmax(active))
    rest = ~active[begin:]
    return begin + int(np.argmax(rest)) if rest.any() else len(active)


def _reset(source: Source, trace: Trace, name: str | None) -> tuple[Flags, str]:
    """Cycles [cycles] in which the design is reset, and by what."""
    holds = Holds(source, trace)
    if name is None and len(holds.cycles):
        return holds.any, "after the asynchronous reset"
    if name is None:
        found = [port.name for port in source.inputs if port.width == 1 and _plain(port.name)]
        if not found:
            return np.zeros(trace.cycles, bool), "no reset is known: from the start"
        name = found[0]
    port = source.port(name, source.inputs, "input")
    if port.width != 1:
        raise InputError(f"--reset {name}: is {port.width} bits wide")
    level = trace.bit(name, 0)
    low = _is_low(name) or ("not", ("in", name, 0)) in holds.conditions
    return ~level if low else level, f"after reset {name}"


def _is_low(name: str) -> bool:
    return name.lower().removesuffix("i").removesuffix("_").endswith("n")


def _plain(name: str) -> bool:
    base = name.lower()
    endings = ("_ni", "_n_i", "_n", "n", "_b", "")
    return any(base.removesuffix(ending) in _RESETS for ending in endings)


class Holds:
    """The flip-flop bits that an asynchronous set, reset or load holds, cycle by cycle.

    An upset of a bit while it is held changes nothing. `cycles` [k, cycles] one row a set of
    conditions.
    """

    def __init__(self, source: Source, trace: Trace) -> None:
        self._length = trace.cycles
        self.conditions: set[state_cells.Condition] = set()
        rows: dict[tuple[state_cells.Condition, ...], int] = {}
        self._row = np.full(source.design.space.size, -1, np.int64)
        found = []
        for cell, bits in source.held.items():
            for index, conditions in enumerate(bits):
                if not conditions:
                    continue
                if conditions not in rows:
                    rows[conditions] = len(rows)
                    held = [state_cells.evaluate(one, trace.bit) for one in conditions]
                    found.append(np.broadcast_to(np.any(held, axis=0), trace.cycles))
                    self.conditions.update(conditions)
                number = source.design.bit_numbers.get((cell, index))
                if number is not None:
                    self._row[number] = rows[conditions]
        self.cycles: Flags = np.array(found, bool).reshape(len(found), trace.cycles)

    @property
    def any(self) -> Flags:
        """Cycles [cycles] in which some bit is held."""
        return np.asarray(self.cycles.any(axis=0), np.bool_)

    @property
    def first_free(self) -> int:
        """The cycle after the first span in which bits are held; 0 if none ever is."""
        return _after_first_span(self.any)

    def effective(self, faults: Faults) -> Faults:
        """The faults without what strikes a held bit; an experiment may be left without events."""
        if not self.cycles.any():
            return faults
        row, flip = self._row[faults.target], faults.mode == Mode.FLIP
        at = np.minimum(faults.start, self._length - 1)
        held = (row >= 0) & self.cycles[row, at]
        parts: list[tuple[int, int, int]] = []
        for i, (start, stop) in enumerate(zip(faults.start, faults.stop, strict=True)):
            if row[i] < 0 or (flip[i] and not held[i]):
                parts.append((i, int(start), int(stop)))
            elif not flip[i]:
                parts += [(i, *span) for span in self._spans(int(row[i]), int(start), int(stop))]
        table = np.array(parts, np.int64).reshape(-1, 3)
        which = table[:, 0]
        owner = np.repeat(np.arange(len(faults)), np.diff(faults.first))[which]
        first = np.searchsorted(owner, np.arange(len(faults) + 1))
        return Faults(first, faults.target[which], faults.mode[which], table[:, 1], table[:, 2])

    def _spans(self, row: int, begin: int, stop: int) -> list[tuple[int, int]]:
        """The spans of a stuck-at in which its bit is not held."""
        free = np.concatenate(
            ([False], ~self.cycles[row, begin : min(stop, self._length)], [False])
        )
        edges = np.flatnonzero(free[1:] != free[:-1]) + begin
        return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
