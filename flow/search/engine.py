"""Search engines that ask for encodings and are told their objectives: NSGA-II, NSGA-III, random.

Survival and non-dominated sorting are pymoo's; selection, crossover and mutation are plain NumPy on
one generator, whose state is part of `state()`: an engine made from its state goes on as if it had
never stopped. No encoding is asked for twice.

Sources: K. Deb et al., NSGA-II, IEEE Trans. Evol. Comp. 6(2), 2002; K. Deb and H. Jain, NSGA-III,
ibid. 18(4), 2014.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ...quant.errors import InputError
from ...quant.ir import IntArray
from ...quant.names import printable
from .survival import FloatArray, survive

__all__ = ["ALGORITHMS", "Domain", "Engine", "Nsga", "Random", "engine"]

Json = dict[str, Any]
Key = tuple[int, ...]

ALGORITHMS = ("nsga2", "nsga3", "random")
ROUNDS = 64
"""Batches of proposals without anything new after which the rest of the space is listed."""
BATCH = 32
"""Children that are made at a time, at least: near the end of a search few of them are new."""
LISTED = 1 << 16
"""Encodings that are listed at a time."""


class Domain(Protocol):
    """What an engine needs of a space."""

    @property
    def sizes(self) -> IntArray:
        """Number of choices of each gene, [genes]."""

    def canonical(self, encodings: IntArray) -> IntArray:
        """[n, genes] -> [n, genes]: genes that mean nothing are 0."""


class Engine(Protocol):
    """What asks and is told. `parents` are those of the encodings that were asked for last."""

    parents: list[tuple[Key, ...]]

    def ask(self, count: int) -> IntArray:
        """Up to `count` new canonical encodings [n, genes]; fewer where the space is exhausted."""

    def tell(self, encodings: IntArray, objectives: FloatArray) -> None:
        """Objectives [n, objectives], minimised, of encodings [n, genes] that were evaluated."""

    def state(self) -> Json:
        """All but what was asked for so far, as JSON."""


class Random:
    """Uniform over the raw encodings, without replacement: the control of every comparison."""

    def __init__(self, space: Domain, seed: int = 0) -> None:
        self._space = space
        self._sizes = np.asarray(space.sizes, dtype=np.int64)
        self._rng = np.random.default_rng(seed)
        self._seen: set[Key] = set()
        self.parents: list[tuple[Key, ...]] = []

    def ask(self, count: int) -> IntArray:
        """As `Engine.ask`."""
        found = self._fresh(count)
        self.parents = [()] * len(found)
        return self._array(found)

    def tell(self, encodings: IntArray, objectives: FloatArray) -> None:
        """As `Engine.tell`; nothing is learnt."""

    def state(self) -> Json:
        """As `Engine.state`."""
        return {"random": self._rng.bit_generator.state}

    def restore(self, state: Mapping[str, Any], seen: Iterable[Key]) -> None:
        """Go on from `state`; `seen` are all encodings asked for before."""
        self._rng.bit_generator.state = state["random"]
        self._seen = set(seen)

    def _array(self, found: Sequence[Key]) -> IntArray:
        return np.array(found, dtype=np.int64).reshape(len(found), len(self._sizes))

    def _fresh(self, count: int) -> list[Key]:
        """Encodings that were never asked for, drawn at random."""
        found: list[Key] = []
        for _ in range(ROUNDS):
            if len(found) == count:
                return found
            drawn = self._rng.integers(0, self._sizes, (2 * count, len(self._sizes)))
            found += self._new(self._space.canonical(drawn), count - len(found))
        return found + self._remaining(count - len(found))

    def _new(self, encodings: IntArray, count: int) -> list[Key]:
        """The first `count` of canonical encodings that are new, which they then are no more."""
        found: list[Key] = []
        for row in encodings.tolist():
            key = tuple(row)
            if len(found) < count and key not in self._seen:
                self._seen.add(key)
                found.append(key)
        return found

    def _remaining(self, count: int) -> list[Key]:
        """What is left of a space that is nearly exhausted: all encodings, listed in parts."""
        found: list[Key] = []
        total = math.prod(self._sizes.tolist())
        for start in range(0, total, LISTED):
            if len(found) == count:
                break
            numbers = self._rng.permutation(np.arange(start, min(start + LISTED, total)))
            every = np.stack(np.unravel_index(numbers, self._sizes.tolist()), axis=1)
            found += self._new(self._space.canonical(every), count - len(found))
        return found


class Nsga(Random):
    """NSGA-II or NSGA-III: binary tournaments, uniform crossover, each gene reset with probability
    1 / genes. Children that were asked for before are drawn anew."""

    def __init__(self, space: Domain, kind: str, population: int, seed: int = 0) -> None:
        super().__init__(space, seed)
        self._kind, self._size = kind, population
        self._members = self._array([])
        self._objectives: FloatArray = np.zeros((0, 0))
        self._order = np.zeros(0, dtype=np.int64)
        self._normal: Json | None = None

    def ask(self, count: int) -> IntArray:
        """As `Engine.ask`: random until two members are known, then their children."""
        self.parents = []
        found: list[Key] = []
        for _ in range(ROUNDS if len(self._members) > 1 else 0):
            if len(found) == count:
                break
            found += self._children(count - len(found))
        rest = self._fresh(count - len(found))
        self.parents += [()] * len(rest)
        return self._array(found + rest)

    def _children(self, count: int) -> list[Key]:
        """At most `count` new ones."""
        drawn = max(BATCH, 2 * count)
        mothers, fathers = self._select(drawn), self._select(drawn)
        shape = (drawn, len(self._sizes))
        mixed = np.where(
            self._rng.random(shape) < 0.5, self._members[mothers], self._members[fathers]
        )
        children = self._space.canonical(self._mutated(mixed))
        found: list[Key] = []
        members = [tuple(row) for row in self._members.tolist()]
        for child, mother, father in zip(children, mothers, fathers, strict=True):
            new = self._new(child[None], count - len(found))
            if new:
                self.parents.append((members[mother], members[father]))
            found += new
        return found

    def _select(self, count: int) -> IntArray:
        """Winners of binary tournaments; equals are drawn by lot."""
        first, second = self._rng.integers(0, len(self._members), (2, count))
        behind = self._order[second] < self._order[first]
        return np.asarray(np.where(behind, second, first))

    def _mutated(self, encodings: IntArray) -> IntArray:
        """Other choices for one gene of each encoding on average."""
        shape = encodings.shape
        other = encodings + self._rng.integers(1, np.maximum(self._sizes, 2), shape)
        hit = self._rng.random(shape) < 1 / shape[1]
        return np.where(hit, other % self._sizes, encodings)

    def tell(self, encodings: IntArray, objectives: FloatArray) -> None:
        """As `Engine.tell`: the best of the members and the told ones are the new members."""
        if not len(encodings):
            return
        width = objectives.shape[1]
        members = np.concatenate([self._members, encodings])
        values = np.concatenate([self._objectives.reshape(-1, width), objectives])
        kept, self._order, self._normal = survive(
            self._kind, values, self._size, self._rng, self._normal
        )
        self._members, self._objectives = members[kept], values[kept]

    def state(self) -> Json:
        """As `Engine.state`."""
        return {
            **super().state(),
            "members": self._members.tolist(),
            "objectives": self._objectives.tolist(),
            "order": self._order.tolist(),
            "normal": self._normal,
        }

    def restore(self, state: Mapping[str, Any], seen: Iterable[Key]) -> None:
        """As `Random.restore`."""
        super().restore(state, seen)
        self._members = self._array([tuple(row) for row in state["members"]])
        self._objectives = np.array(state["objectives"], dtype=float)
        self._objectives = self._objectives.reshape(len(self._members), -1)
        self._order = np.array(state["order"], dtype=np.int64)
        self._normal = state["normal"]


def engine(algorithm: str, space: Domain, population: int, seed: int = 0) -> Random:
    """The engine of that name in `ALGORITHMS`. Raises InputError for another name."""
    if algorithm == "random":
        return Random(space, seed)
    if algorithm not in ALGORITHMS:
        raise InputError(f"algorithm {printable(algorithm)!r} is none of {', '.join(ALGORITHMS)}")
    return Nsga(space, algorithm, population, seed)
