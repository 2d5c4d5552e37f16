"""Estimates of many candidates at once: tables of the pieces of networks, gathered with NumPy.

A candidate is at most `most_stages` stages and a head (`segments`). A piece's row is made by the
exact estimator when the first candidate needs it, and is found by a number made of its genes from
then on. Needs neither torch nor Amaranth. docs/search.md says which columns are exact.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...hw.watchdog_config import WatchdogConfig
from ...quant.ir import Graph, IntArray
from .. import targets
from ..costs import luts
from ..costs.watchdog import watchdog_resources
from .candidate import StageSpec
from .segments import COLUMNS, PACES, Piece, Row, figures
from .skeleton import Bits
from .space import Space

__all__ = ["CIRCUIT", "PREDICTED", "Estimates", "estimate_batch"]

CIRCUIT = ("luts", "ffs", "dsps", "brams", "latency_cycles", "initiation_interval")
"""Columns that depend on folding and plan."""

PREDICTED = (*CIRCUIT, "macs", "parameters", "asi_fault", "asi_ber", "asi_worst", "adcr")
"""Objectives that `estimate_batch` knows without training."""

HARDWARE = ("interval", "multiplier", "plan")
NUMBERS = ("family", "weight_bits", "act_bits", "scheme")
AT = {name: column for column, name in enumerate(COLUMNS)}

LARGEST = 1 << 18
"""Rows of one table: 60 MB. A table that would grow beyond is emptied first."""

Columns = dict[str, Row]


def estimate_batch(space: Space, encodings: IntArray) -> Columns:
    """Costs of candidates [n, genes] of a space, by name: float64 [n].

    luts, ffs, dsps, brams, latency_cycles, initiation_interval, macs, parameters, asi_fault,
    asi_ber, asi_worst, adcr, as `estimate` and `topology` have them of the candidates' skeletons.
    Neurons that a plan triples by their score are the first of each layer here, in the same share.
    What belongs to a circuit is NaN where the circuits refuse a layer (`estimate` of the decoded
    candidate's skeleton says why), luts also where the target's family has no model. Raises
    ValueError for encodings that are none of the space.
    """
    return _estimates(space).columns(encodings)


@functools.lru_cache(maxsize=4)
def _estimates(space: Space) -> Estimates:
    """The tables of a space; those of the last few spaces are kept."""
    return Estimates(space)


class Estimates:
    """The tables of a space: one for the stages of each number, one for the heads behind them."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.stages = [_Table(space, number) for number in range(1, space.most_stages + 1)]
        self.heads = _Heads(space)
        self.depths = np.array(space.gene("stages").choices, dtype=np.int64)

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(len(table.keys) for table in (*self.stages, self.heads))

    def columns(self, encodings: IntArray) -> Columns:
        """As `estimate_batch`."""
        genes = self.space.canonical(encodings)
        depth = self.depths[genes[:, self.space.columns["stages"]]]
        total = _Sum(len(genes))
        for number, table in enumerate(self.stages, 1):
            there = depth >= number
            if there.all():
                total.add(table.rows(genes), slice(None))
            elif there.any():
                total.add(table.rows(genes[there]), np.flatnonzero(there))
        total.add(self.heads.rows(genes), slice(None))
        found = total.columns()
        self._watch(genes, found, total)
        return found

    def _watch(self, genes: IntArray, found: Columns, total: _Sum) -> None:
        """Add the watchdog to the candidates whose plan has one."""
        names = [str(name) for name in self.space.gene("plan").choices]
        watched = np.array([self.space.plan(name).watchdog for name in names])
        if not watched.any():
            return
        target = targets.find(self.space.target)
        model = luts.model(target.family.name)
        limit = found["latency_cycles"] + found["initiation_interval"] + total.sums[:, AT["late"]]
        for i in np.flatnonzero(watched[genes[:, self.space.columns["plan"]]]):
            if math.isnan(limit[i]):
                continue
            frames = int(total.sums[i, AT["frames"]])
            beats = int(total.sums[i, AT["beats"]])
            config = WatchdogConfig(beats, frames, round(limit[i]), on_error=False)
            one = watchdog_resources(config, model)
            found["luts"][i] += math.nan if one.luts is None else one.luts
            found["ffs"][i] += one.ffs or 0


class _Sum:
    """Sums of the pieces of candidates, and the times of their first frames so far."""

    def __init__(self, count: int) -> None:
        self.sums = np.zeros((count, len(COLUMNS)))
        self.first = np.zeros(count)
        self.spread = np.zeros(count)

    def add(self, rows: Row, where: Any) -> None:
        """Put the pieces' rows behind those of the candidates `where`."""
        start, count = len(COLUMNS), len(PACES)
        own, sums = rows[:, :start], self.sums[where]
        added = sums + own
        for name in ("interval", "worst"):
            added[:, AT[name]] = np.maximum(sums[:, AT[name]], own[:, AT[name]])
        self.sums[where] = added
        spread_in, delay, spread = (rows[:, start + i * count :][:, :count] for i in range(3))
        arriving = self.spread[where]
        place = np.clip((arriving[:, None] >= spread_in).sum(axis=1) - 1, 0, count - 2)
        each = np.arange(len(rows))
        low, high = spread_in[each, place], spread_in[each, place + 1]
        part = np.maximum((arriving - low) / np.maximum(high - low, 1.0), 0.0)
        for times, kept in ((delay, self.first), (spread, self.spread)):
            value = times[each, place]
            value = value + part * (times[each, place + 1] - value)
            kept[where] = kept[where] + value if kept is self.first else value

    def columns(self) -> Columns:
        """The figures of whole networks."""
        at = {name: self.sums[:, column] for name, column in AT.items()}
        return {
            **{name: at[name].copy() for name in ("luts", "ffs", "dsps", "brams")},
            "latency_cycles": np.rint(self.first + self.spread),
            "initiation_interval": at["interval"].copy(),
            "macs": at["macs"].copy(),
            "parameters": at["parameters"].copy(),
            "asi_fault": at["relevance"] / at["elements"],
            "asi_ber": at["bits"].copy(),
            "asi_worst": at["worst"].copy(),
            "adcr": at["adcr"].copy(),
        }


class _Table:
    """Rows of the stages of one number, by a key: their genes as digits of one number."""

    def __init__(self, space: Space, number: int) -> None:
        self.space, self.number = space, number
        self.genes = (*NUMBERS, *self.own_genes(), *HARDWARE)
        self.places = np.array([space.columns[name] for name in self.genes])
        self.radices = [len(space.gene(name).choices) for name in self.genes]
        if math.prod(self.radices) >= 1 << 62:
            raise ValueError("the space has too many choices for the tables of its estimates")
        self.weights = np.array([math.prod(self.radices[i + 1 :]) for i in range(len(self.genes))])
        self.width = len(COLUMNS) + 3 * len(PACES)
        self.clear()

    def clear(self) -> None:
        """Forget every row."""
        self.keys: IntArray = np.empty(0, dtype=np.int64)
        self.values: Row = np.empty((0, self.width))

    def own_genes(self) -> tuple[str, ...]:
        """Genes of the piece itself, and the width in front of it."""
        before = (f"width{self.number - 1}",) if self.number > 1 else ()
        return (*before, *(f"{name}{self.number}" for name in ("blocks", "width", "kernel")))

    def rows(self, encodings: IntArray) -> Row:
        """Rows [n, columns] of the pieces of encodings [n, genes]; new ones are made."""
        return self.look_up(encodings[:, self.places] @ self.weights)

    def look_up(self, keys: IntArray) -> Row:
        """Rows of keys [n]."""
        if len(self.keys):
            place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
            known = self.keys[place] == keys
            if known.all():
                return self.values[place]
            missing = np.unique(keys[~known])
        else:
            missing = np.unique(keys)
        if len(self.keys) + len(missing) > LARGEST:
            self.clear()
            missing = np.unique(keys)
        made = np.array([self.make(key) for key in missing.tolist()])
        every = np.concatenate((self.keys, missing))
        order = np.argsort(every)
        self.keys = every[order]
        self.values = np.concatenate((self.values, made))[order]
        return self.values[np.searchsorted(self.keys, keys)]

    def make(self, key: int) -> Row:
        """The row of a key."""
        genes: dict[str, Any] = {}
        for name, radix in zip(reversed(self.genes), reversed(self.radices), strict=True):
            key, digit = divmod(key, radix)
            genes[name] = self.space.gene(name).choices[digit]
        piece = self.piece(genes)
        return figures(
            piece,
            _graph(piece),
            genes["interval"],
            genes["multiplier"],
            self.space.plan(genes["plan"]),
            targets.find(self.space.target),
        )

    def piece(self, genes: Mapping[str, Any]) -> Piece:
        """The piece with these choices."""
        n = self.number
        stage = StageSpec(genes[f"blocks{n}"], genes[f"width{n}"], genes[f"kernel{n}"])
        channels = self.space.data.input_shape[0]
        width = genes[f"width{n - 1}"] if n > 1 else channels
        return Piece(genes["family"], _bits(genes), n, self.size(n), width, stage)

    def size(self, number: int) -> tuple[int, int]:
        """Height and width in front of a stage."""
        _, height, width = self.space.data.input_shape
        return height >> (number - 1), width >> (number - 1)


class _Heads(_Table):
    """Rows of the heads, by the number of stages in front and the width of the last of them."""

    def __init__(self, space: Space) -> None:
        super().__init__(space, 0)
        self.depths = np.array(space.gene("stages").choices, dtype=np.int64)
        numbers = range(1, space.most_stages + 1)
        self.widths = np.array([space.columns[f"width{number}"] for number in numbers])
        self.at = self.genes.index("width1")

    def own_genes(self) -> tuple[str, ...]:
        """`width1` stands for the last width: stages choose among the same widths."""
        return "stages", "width1", "head"

    def rows(self, encodings: IntArray) -> Row:
        """Rows [n, columns] of the heads of encodings [n, genes]."""
        genes = encodings[:, self.places]
        depth = self.depths[encodings[:, self.space.columns["stages"]]]
        genes[:, self.at] = encodings[np.arange(len(genes)), self.widths[depth - 1]]
        return self.look_up(genes @ self.weights)

    def piece(self, genes: Mapping[str, Any]) -> Piece:
        """The head with these choices."""
        number = genes["stages"] + 1
        return Piece(
            genes["family"],
            _bits(genes),
            number,
            self.size(number),
            genes["width1"],
            head=genes["head"],
            classes=self.space.data.classes,
        )


def _bits(genes: Mapping[str, Any]) -> Bits:
    return genes["weight_bits"], genes["act_bits"], genes["scheme"]


@functools.lru_cache(maxsize=8)
def _graph(piece: Piece) -> Graph:
    return piece.graph()
