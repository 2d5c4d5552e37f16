"""A search space: its genes, their encodings, and the candidates that they stand for.

An encoding is a row of int64, one index into `Gene.choices` for each gene. Genes of stages that a
network does not have are 0 in a canonical encoding, so that every candidate has one encoding.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...quant.errors import InputError
from ...quant.ir import IntArray
from ..plan import Plan
from .candidate import Candidate, NetworkSpec, StageSpec

__all__ = ["FIT", "NO_PLAN", "DataSpec", "Gene", "SearchSpec", "Space", "TrainSpec"]

NO_PLAN = "none"
FIT = "fit"
"""The constraint on every resource of the target, as a share of it."""

STAGE_GENES = ("blocks", "width", "kernel")
NETWORK_GENES = ("family", "stages", "head", "weight_bits", "act_bits", "scheme")
HARDWARE_GENES = ("interval", "multiplier", "plan")


@dataclass(frozen=True)
class Gene:
    """A choice. `group` is "network", what is trained, or "hardware", what circuit it becomes."""

    name: str
    choices: tuple[str | int, ...]
    group: str


@dataclass(frozen=True)
class DataSpec:
    """The images: `digits`, or a file of one's own; `seed` of their split.

    `content` is the SHA-256 of the file, empty for the digits; `input_shape` (c, h, w).
    """

    name: str
    seed: int
    input_shape: tuple[int, int, int]
    classes: int
    images: Path | None = None
    content: str = ""


@dataclass(frozen=True)
class TrainSpec:
    """How every network is trained."""

    epochs: int
    seed: int


@dataclass(frozen=True)
class SearchSpec:
    """`algorithm` "nsga2", "nsga3" or "random"; `population` candidates a generation."""

    algorithm: str
    population: int
    evaluations: int
    seed: int


@dataclass(frozen=True, eq=False)
class Space:
    """What can be chosen (`genes`), what it is judged by, and how the search goes about it.

    `plans` by name, without `NO_PLAN`; `objectives` to minimise; `constraints`: `FIT`, or the
    largest value of an objective; `reference`: the hypervolume's reference point by objective, or
    nothing. `folder` holds files that objectives name; `sources` are their SHA-256 by name.
    """

    genes: tuple[Gene, ...]
    data: DataSpec
    train: TrainSpec
    target: str
    plans: Mapping[str, Plan]
    objectives: tuple[str, ...]
    constraints: Mapping[str, float]
    search: SearchSpec
    reference: Mapping[str, float] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)
    sources: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def sizes(self) -> IntArray:
        """Number of choices of each gene, [genes]."""
        return np.array([len(gene.choices) for gene in self.genes], dtype=np.int64)

    @functools.cached_property
    def columns(self) -> dict[str, int]:
        """Where a gene stands in an encoding, by its name."""
        return {gene.name: column for column, gene in enumerate(self.genes)}

    @property
    def most_stages(self) -> int:
        """Stages of the deepest network."""
        return max(int(n) for n in self.gene("stages").choices)

    @property
    def asked(self) -> tuple[str, ...]:
        """Objectives that an evaluation must give: those to minimise, then those constrained."""
        resources = ("luts", "ffs", "dsps", "brams") if FIT in self.constraints else ()
        bounded = (name for name in self.constraints if name != FIT)
        return tuple(dict.fromkeys((*self.objectives, *resources, *bounded)))

    def gene(self, name: str) -> Gene:
        """The gene of this name; KeyError if there is none."""
        return self.genes[self.columns[name]]

    @functools.cached_property
    def size(self) -> int:
        """Number of different candidates: canonical encodings."""
        return sum(self._below(int(n)) for n in self.gene("stages").choices)

    def _below(self, stages: int) -> int:
        """Candidates with a number of stages."""
        idle = {self.columns["stages"], *self._idle(stages)}
        return math.prod(n for column, n in enumerate(self.sizes.tolist()) if column not in idle)

    def _idle(self, stages: int) -> list[int]:
        """Columns of the genes that mean nothing in a network of so many stages."""
        return [
            self.columns[f"{name}{stage}"]
            for stage in range(stages + 1, self.most_stages + 1)
            for name in STAGE_GENES
        ]

    def canonical(self, encodings: IntArray) -> IntArray:
        """The encodings [n, genes] with genes that mean nothing set to 0.

        Raises ValueError for another number of genes or an index that is no choice.
        """
        found = np.array(encodings, dtype=np.int64)
        if found.ndim != 2 or found.shape[1] != len(self.genes):
            raise ValueError(f"encodings must be [n, {len(self.genes)}], not {found.shape}")
        if (found < 0).any() or (found >= self.sizes).any():
            raise ValueError("encodings hold an index that is not a choice of its gene")
        depth = np.array(self.gene("stages").choices)[found[:, self.columns["stages"]]]
        for stage in range(1, self.most_stages + 1):
            columns = [self.columns[f"{name}{stage}"] for name in STAGE_GENES]
            found[:, columns] *= (depth >= stage)[:, None]
        return found

    def sample(self, rng: np.random.Generator, n: int) -> IntArray:
        """`n` different canonical encodings, int64 [n, genes], every gene drawn evenly.

        Raises InputError where the space has fewer candidates.
        """
        if n > self.size:
            raise InputError(
                f"the space has {self.size} candidates, not {n}; add choices, or lower "
                "[search] population"
            )
        if self.size <= 4 * n:  # drawing would take long to find the last ones
            return rng.permutation(np.array(list(self._all()), dtype=np.int64))[:n]
        found: dict[bytes, IntArray] = {}
        while len(found) < n:
            drawn = rng.integers(0, self.sizes, (n, len(self.genes)))
            for row in self.canonical(drawn):
                found.setdefault(row.tobytes(), row)
        return np.array(list(found.values())[:n])

    def _all(self) -> Iterator[tuple[int, ...]]:
        """Every canonical encoding."""
        for choice, stages in enumerate(self.gene("stages").choices):
            sizes = self.sizes.copy()
            sizes[self._idle(int(stages))] = 1
            sizes[self.columns["stages"]] = 1
            for row in np.ndindex(*sizes.tolist()):
                chosen = list(row)
                chosen[self.columns["stages"]] = choice
                yield tuple(chosen)

    def genome(self, encoding: IntArray) -> dict[str, Any]:
        """The choices by name, for people; those of a stage are lists over the stages.

        Raises ValueError as `canonical`.
        """
        (row,) = self.canonical(np.asarray(encoding)[None])
        value = {
            gene.name: gene.choices[index] for gene, index in zip(self.genes, row, strict=True)
        }
        head = ("family", "stages")
        stages = range(1, int(value["stages"]) + 1)
        found: dict[str, Any] = {name: value[name] for name in head}
        found |= {name: [value[f"{name}{stage}"] for stage in stages] for name in STAGE_GENES}
        return found | {
            name: value[name] for name in (*NETWORK_GENES, *HARDWARE_GENES) if name not in head
        }

    def decode(self, encoding: IntArray) -> Candidate:
        """The candidate of an encoding [genes]; ValueError as `canonical`."""
        chosen = self.genome(encoding)
        stages = zip(*(chosen[name] for name in STAGE_GENES), strict=True)
        network = NetworkSpec(
            family=chosen["family"],
            stages=tuple(StageSpec(*stage) for stage in stages),
            head=chosen["head"],
            weight_bits=chosen["weight_bits"],
            act_bits=chosen["act_bits"],
            scheme=chosen["scheme"],
            input_shape=self.data.input_shape,
            classes=self.data.classes,
        )
        return Candidate(network, chosen["interval"], chosen["multiplier"], chosen["plan"])

    def plan(self, name: str) -> Plan:
        """The hardening plan of this name; KeyError if there is none."""
        return Plan() if name == NO_PLAN else self.plans[name]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of everything that changes what the search finds after any number of evaluations.

        The number of evaluations itself is left out: a search may be resumed with more of them.
        """
        text = json.dumps(self.document(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def document(self) -> dict[str, Any]:
        """What `digest` is made of, as JSON: an archive tells by it how two spaces differ."""
        data = {key: value for key, value in asdict(self.data).items() if key != "images"}
        search = {key: one for key, one in asdict(self.search).items() if key != "evaluations"}
        return {
            "genes": [asdict(gene) for gene in self.genes],
            "data": data,
            "train": asdict(self.train),
            "target": self.target,
            "plans": {name: plan.to_json() for name, plan in self.plans.items()},
            "objectives": self.objectives,
            "constraints": dict(self.constraints),
            "reference": dict(self.reference),
            "search": search,
            "sources": dict(self.sources),
        }
