"""A search space measured in full: the objectives of every candidate, looked up instead of paid.

One .npz file: a row for each network of a grid space with what was measured of it, and the
objectives of each of its circuits. With it engines are compared in seconds; `tabular_rows` fills
it. The idea: C. Ying et al., "NAS-Bench-101" (ICML 2019).
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...quant.errors import InputError
from ...quant.ir import IntArray
from ...quant.names import printable
from ...quant.npz import load_array
from .candidate import Candidate
from .space import Space

__all__ = ["Table", "hardware", "networks", "table_digest"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

SCHEMA = 2
MOST_NETWORKS = 1 << 20
"""Raw encodings of the network genes that are listed."""


def table_digest(space: Space) -> str:
    """SHA-256 of what a table depends on: not of constraints, reference point and algorithm."""
    parts = ("genes", "data", "train", "target", "plans", "sources")
    document = space.document()
    chosen = {"schema": SCHEMA, "asked": space.asked} | {name: document[name] for name in parts}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def networks(space: Space) -> IntArray:
    """An encoding [n, genes] of each network of the space, hardware genes 0, in order.

    Raises InputError for a space that is too large to be listed.
    """
    sizes = [len(gene.choices) if gene.group == "network" else 1 for gene in space.genes]
    if math.prod(sizes) > MOST_NETWORKS:
        raise InputError(
            f"the space has {math.prod(sizes)} encodings of networks; a table takes at most "
            f"{MOST_NETWORKS}: take choices away"
        )
    every = np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=1)
    return np.unique(space.canonical(every), axis=0)


def hardware(space: Space) -> IntArray:
    """Every choice of the hardware genes, network genes 0: [n, genes]."""
    sizes = [len(gene.choices) if gene.group == "hardware" else 1 for gene in space.genes]
    return np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=1)


@dataclass(frozen=True, eq=False)
class Table:
    """What was measured of a space.

    `encodings` [n, genes] of the networks, `names` of the objectives, `values` [n, circuits,
    objectives] with the circuits in the order of `hardware` and NaN where one was refused, and
    `columns`: name -> [n], measured of the networks themselves.
    """

    space: Space
    encodings: IntArray
    names: tuple[str, ...]
    values: FloatArray
    columns: Mapping[str, FloatArray]

    @functools.cached_property
    def _rows(self) -> dict[tuple[int, ...], int]:
        return {tuple(key): row for row, key in enumerate(self.encodings.tolist())}

    @functools.cached_property
    def _of_hardware(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return np.array([gene.group == "hardware" for gene in self.space.genes])

    def __len__(self) -> int:
        return len(self.encodings)

    def lookup(self, encodings: IntArray) -> FloatArray:
        """Objectives [m, objectives] of canonical encodings [m, genes]; NaN where refused.

        Raises InputError for a network that is not in the table.
        """
        rows, circuits = self._places(np.asarray(encodings, dtype=np.int64))
        return np.asarray(self.values[rows, circuits])

    def _places(self, encodings: IntArray) -> tuple[IntArray, IntArray]:
        """Row and circuit of each encoding."""
        rows = []
        for row in np.where(self._of_hardware, 0, encodings).tolist():
            if tuple(row) not in self._rows:
                raise InputError("the table has no such network; it is of another space")
            rows.append(self._rows[tuple(row)])
        sizes = self.space.sizes[self._of_hardware].tolist()
        circuits = np.ravel_multi_index(tuple(encodings[:, self._of_hardware].T), sizes)
        return np.array(rows, dtype=np.int64), np.asarray(circuits, dtype=np.int64)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        """The objectives of a candidate, as an evaluator of the search gives them.

        Raises InputError for one that is not in the table or whose circuit was refused.
        """
        (found,) = self.lookup(self._encode(candidate)[None])
        if np.isnan(found).any():
            raise InputError("the table has no objectives: the circuit was refused")
        return dict(zip(self.names, found.tolist(), strict=True))

    def _encode(self, candidate: Candidate) -> IntArray:
        """The canonical encoding that `Space.decode` makes this candidate of."""
        spec = candidate.network
        chosen: dict[str, Any] = {
            "interval": candidate.interval,
            "multiplier": candidate.multiplier,
            "plan": candidate.plan_name,
            "stages": len(spec.stages),
        }
        for name in ("family", "head", "weight_bits", "act_bits", "scheme"):
            chosen[name] = getattr(spec, name)
        for number, stage in enumerate(spec.stages, 1):
            chosen |= {f"{key}{number}": value for key, value in vars(stage).items()}
        found = np.zeros(len(self.space.genes), dtype=np.int64)
        for column, gene in enumerate(self.space.genes):
            if gene.name in chosen:
                if chosen[gene.name] not in gene.choices:
                    raise InputError(f"the table knows no {gene.name} {chosen[gene.name]}")
                found[column] = gene.choices.index(chosen[gene.name])
        return found

    def save(self, path: Path) -> None:
        """Write one compressed .npz file, whole or not at all."""
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                digest=_text([table_digest(self.space)]),
                encodings=self.encodings,
                names=_text(self.names),
                values=self.values,
                column_names=_text(list(self.columns)),
                columns=np.stack(list(self.columns.values())),
            )
        partial.replace(path)

    @classmethod
    def load(cls, path: Path, space: Space) -> Table:
        """Read a file of `save`; InputError if it is none, or of another space."""
        found = {
            name: load_array(path, name)
            for name in ("digest", "encodings", "names", "values", "column_names", "columns")
        }
        where = printable(path.name)
        if _words(found["digest"]) != [table_digest(space)]:
            raise InputError(f"{where}: is the table of another space; measure this one")
        names, columns = _words(found["names"]), _words(found["column_names"])
        encodings, values = found["encodings"].astype(np.int64), found["values"]
        shape = (len(encodings), len(hardware(space)), len(names))
        if values.shape != shape or found["columns"].shape != (len(columns), len(encodings)):
            raise InputError(f"{where}: arrays of a table do not match; measure it again")
        numbers = found["columns"].astype(np.float64)
        measured = dict(zip(columns, numbers, strict=True))
        return cls(space, encodings, tuple(names), values.astype(np.float64), measured)


def _text(words: Sequence[str]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer("\n".join(words).encode(), np.uint8)


def _words(array: Any) -> list[str]:
    text: str = array.astype(np.uint8).tobytes().decode("utf-8", "replace")
    return text.split("\n")
