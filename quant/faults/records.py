"""Concrete tensor faults: which words of which inference change, and how; kept and replayed.

A law (`laws`) draws such a list; a list can also be written by hand, or come from a register fault
of the circuit. What each word is in hardware stands in docs/tensor_faults.md.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..ir import IntArray
from ..names import printable
from ..npz import load_array

__all__ = ["LAST", "Op", "Tensor", "TensorFault", "TensorFaults"]

LAST = -1
"""As `step` of an accumulator: after the last product."""


class Tensor(enum.IntEnum):
    """The word that changes, in the order in which an inference makes them.

    INPUT: an element of the layer's operand as this layer alone sees it (a word of its window
    buffer). WEIGHT, BIAS: as stored, for the whole inference; a bias has the zero point folded in.
    WEIGHT_READ, INPUT_READ: the weight and the element of one multiplication. PRODUCT: their
    product, or the sum of `span` neighbouring products. ACCUMULATOR: bias and products so far.
    PREACTIVATION: the rounded word before it is clamped. ACTIVATION: an element of the result.
    """

    INPUT = 0
    WEIGHT = 1
    BIAS = 2
    WEIGHT_READ = 3
    INPUT_READ = 4
    PRODUCT = 5
    ACCUMULATOR = 6
    PREACTIVATION = 7
    ACTIVATION = 8


class Op(enum.IntEnum):
    """What happens: bits in `value` are inverted, cleared or set; `value` is added and the sum
    clipped to the word's range; the word becomes `value`."""

    FLIP = 0
    CLEAR = 1
    SET = 2
    ADD = 3
    PUT = 4


@dataclass(frozen=True)
class TensorFault:
    """One change of one word.

    `layer` is a node of the graph, or its input (ACTIVATION only). `index` is flat: into the
    layer's result; for WEIGHT and BIAS into that array, for INPUT into the operand. `step`: the
    product's number in the order of `weight[neuron]`, kernel row, column, channel; for an
    accumulator the product after which it changes. `width` in bits replaces the graph's width of
    a product, of the product that a changed operand makes, or of an accumulator; 0 keeps it.
    """

    layer: str
    tensor: Tensor
    index: int
    value: int
    op: Op = Op.FLIP
    step: int = LAST
    span: int = 1
    width: int = 0


COLUMNS = ("experiment", "layer", "tensor", "index", "step", "span", "width", "op", "value")


@dataclass(frozen=True)
class TensorFaults:
    """Records of many experiments, columns of int64 [m], sorted by `experiment`.

    Experiment e is one inference of input `frame[e]`, [n], with all its records. `layer` is a
    number in `layers`. The other columns are the fields of `TensorFault`.
    """

    layers: tuple[str, ...]
    frame: IntArray
    experiment: IntArray
    layer: IntArray
    tensor: IntArray
    index: IntArray
    step: IntArray
    span: IntArray
    width: IntArray
    op: IntArray
    value: IntArray

    @classmethod
    def build(
        cls, layers: Iterable[str], frame: Any, experiment: Any, layer: Any, **columns: Any
    ) -> TensorFaults:
        """From columns in any order; scalars serve all records, `step`, `span`, `width`, `op`
        have the defaults of `TensorFault`."""
        defaults = {"step": LAST, "span": 1, "width": 0, "op": int(Op.FLIP)}
        given = {**defaults, **columns, "experiment": experiment, "layer": layer}
        count = len(np.atleast_1d(given["experiment"]))
        full = {n: np.broadcast_to(np.asarray(v, np.int64), count) for n, v in given.items()}
        order = np.argsort(full["experiment"], kind="stable")
        rows = {name: np.ascontiguousarray(column[order]) for name, column in full.items()}
        return cls(tuple(layers), np.asarray(frame, np.int64), **rows)

    @classmethod
    def single(cls, faults: Sequence[TensorFault], frame: Any = 0) -> TensorFaults:
        """One experiment for each fault; `frame` one number or one for each."""
        count = len(faults)
        return cls.listed([[fault] for fault in faults], np.broadcast_to(frame, count))

    @classmethod
    def listed(cls, experiments: Sequence[Sequence[TensorFault]], frame: Any) -> TensorFaults:
        """Experiments of any number of faults; `frame` [n], the input of each."""
        flat = [fault for faults in experiments for fault in faults]
        layers = tuple(dict.fromkeys(fault.layer for fault in flat))
        number = {name: i for i, name in enumerate(layers)}
        names = ("tensor", "index", "step", "span", "width", "op", "value")
        return cls.build(
            layers,
            frame,
            np.repeat(np.arange(len(experiments)), [len(faults) for faults in experiments]),
            np.array([number[fault.layer] for fault in flat], np.int64),
            **{n: np.array([getattr(fault, n) for fault in flat], np.int64) for n in names},
        )

    def __len__(self) -> int:
        return len(self.frame)

    def on_every(self, frames: int) -> TensorFaults:
        """Every experiment on each of inputs 0..frames-1: faults that stay for a whole run.

        Experiment e on input f becomes experiment e * frames + f.
        """
        each = np.arange(frames)
        again = {
            name: np.repeat(getattr(self, name), frames) for name in COLUMNS if name != "experiment"
        }
        experiment = (self.experiment[:, None] * frames + each).ravel()
        order = np.argsort(experiment, kind="stable")
        rows = {name: column[order] for name, column in again.items()}
        return TensorFaults(
            self.layers, np.tile(each, len(self)), experiment=experiment[order], **rows
        )

    def taken(self, experiments: IntArray) -> TensorFaults:
        """Only these experiments, ascending and different, renumbered."""
        place = np.full(len(self), -1)
        place[experiments] = np.arange(len(experiments))
        keep = place[self.experiment] >= 0
        rows = {name: getattr(self, name)[keep] for name in COLUMNS}
        rows["experiment"] = place[rows["experiment"]]
        return TensorFaults(self.layers, self.frame[experiments], **rows)

    @classmethod
    def joined(cls, parts: Sequence[TensorFaults]) -> TensorFaults:
        """All experiments of the parts, one part after the other."""
        layers = tuple(dict.fromkeys(name for part in parts for name in part.layers))
        offsets = np.cumsum([0] + [len(part) for part in parts])
        moved = []
        for part, offset in zip(parts, offsets[:-1], strict=True):
            names = np.array([layers.index(name) for name in part.layers], np.int64)
            layer = names[part.layer] if len(part.layer) else part.layer
            moved.append(replace(part, experiment=part.experiment + offset, layer=layer))
        rows = {n: np.concatenate([getattr(part, n) for part in moved]) for n in COLUMNS}
        return cls(layers, np.concatenate([part.frame for part in moved]), **rows)

    def merged(self, other: TensorFaults) -> TensorFaults:
        """Both lists on the same experiments and inputs: two laws at once."""
        if not np.array_equal(self.frame, other.frame):
            raise InputError("tensor faults: lists to merge must have the same inputs")
        both = TensorFaults.joined([self, other])
        rows = {name: getattr(both, name) for name in COLUMNS}
        rows["experiment"] = np.concatenate([self.experiment, other.experiment])
        order = np.argsort(rows["experiment"], kind="stable")
        return TensorFaults(both.layers, self.frame, **{n: c[order] for n, c in rows.items()})

    def save(self, path: Path) -> None:
        """Write an .npz file that `load` reads."""
        names = "\n".join(self.layers).encode()
        columns = {name: getattr(self, name) for name in COLUMNS}
        np.savez_compressed(path, names=np.frombuffer(names, np.uint8), frame=self.frame, **columns)

    @classmethod
    def load(cls, path: Path) -> TensorFaults:
        """Read a file of `save`; InputError naming it if it is none."""
        found = {name: load_array(path, name) for name in ("frame", *COLUMNS)}
        where = printable(path.name)
        rows = {name: found[name] for name in COLUMNS}
        if any(c.dtype != np.int64 or c.ndim != 1 for c in found.values()):
            raise InputError(f"{where}: columns of tensor faults must be int64 vectors")
        if len({len(c) for c in rows.values()}) != 1:
            raise InputError(f"{where}: columns of tensor faults differ in length")
        names = load_array(path, "names").astype(np.uint8).tobytes()
        layers = tuple(names.decode("utf-8", "replace").split("\n")) if names else ()
        experiment, layer = rows["experiment"], rows["layer"]
        for what, column, size in (
            ("experiment", experiment, len(found["frame"])),
            ("layer", layer, len(layers)),
        ):
            if len(column) and not 0 <= column.min() <= column.max() < size:
                raise InputError(f"{where}: {what} numbers must lie in 0..{size - 1}")
        if (np.diff(experiment) < 0).any():
            raise InputError(f"{where}: records must be sorted by experiment")
        return cls(layers, found["frame"], **rows)
