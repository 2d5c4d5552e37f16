"""What may protect each layer, with the area it adds and the vulnerable bit-cycles it leaves.

A layer has up to three groups of options, whose registers differ: `lanes` (control, checksum,
neurons in triple modular redundancy, code of the weights), `words` (the code of what it sends) and
`post` (registers behind the sums). One option of each group makes a plan.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...hw.config import LayerConfig
from ...hw.fold import UNPROTECTED, Protection
from ...hw.linear_config import LinearConfig
from ...quant.errors import InputError
from .choose import undominated
from .coverage import Coverage
from .predict import Cells, Predictor
from .profile import ADDED

__all__ = ["Group", "Option", "candidates", "plan_guards"]

SHARES = tuple(tenth / 10 for tenth in range(1, 11))
"""Shares of a layer's neurons that are tried; those that fill the same lanes count once."""

LANES, WORDS, POST = "lanes", "words", "post"


@dataclass(frozen=True)
class Option:
    """Fields of `Protection` that it sets, the area it adds, and what it leaves of its group's
    vulnerable bit-cycles, its own registers included."""

    fields: Mapping[str, Any]
    area: float
    left: float


@dataclass(frozen=True)
class Group:
    """Options of a layer, the first one without protection; none is cheaper and better than
    another."""

    layer: str
    facet: str
    options: tuple[Option, ...]


def candidates(predictor: Predictor) -> list[Group]:
    """The groups of all layers; those of which no protection is left over are missing.

    Offered are settings whose effect was measured (`Coverage`). An option's cost is the difference
    that it alone makes to the whole design's estimate.
    """
    before = predictor.left(predictor.plain)
    found = []
    for layer in predictor.plain.layers:
        for facet, fields in _facets(predictor, layer):
            options = [Option({}, 0.0, _part(predictor, before, layer, facet))]
            for chosen in fields:
                option = _option(predictor, layer, facet, chosen)
                if option is not None:
                    options.append(option)
            pairs = [(round(2 * option.area), option.left) for option in options]
            kept = tuple(options[index] for index in undominated(pairs))
            if len(kept) > 1:
                found.append(Group(layer.name, facet, kept))
    return found


def plan_guards(groups: Sequence[Group], options: Sequence[int]) -> dict[str, Protection]:
    """The protection of each layer when these options of the groups are taken."""
    guards: dict[str, Protection] = {}
    for group, index in zip(groups, options, strict=True):
        guard = guards.get(group.layer, UNPROTECTED)
        guards[group.layer] = replace(guard, **group.options[index].fields)
    return guards


def _option(
    predictor: Predictor, layer: LayerConfig, facet: str, fields: Mapping[str, Any]
) -> Option | None:
    """None where the layer has no circuit for it."""
    try:
        design = predictor.design({layer.name: replace(UNPROTECTED, **fields)})
        total = predictor.area(design)
    except InputError:
        return None
    left = _part(predictor, predictor.left(design), layer, facet)
    return Option(fields, max(0.0, total - predictor.plain_area), left)


def _part(predictor: Predictor, left: Cells, layer: LayerConfig, facet: str) -> float:
    """What is left of the registers that a group of options decides about."""
    return sum(
        value * _weight(predictor, layer.name, facet, name, kind)
        for (name, kind), value in left.items()
    )


def _weight(predictor: Predictor, layer: str, facet: str, name: str, kind: str) -> float:
    """Whether registers of a kind in the layer `name` belong to a group of options of `layer`; of
    a join's words a part for each operand."""
    if kind == ADDED:
        return 1.0
    if kind == "stream":
        reader = predictor.layers.get(name)
        if facet != WORDS or reader is None:
            return 0.0
        return reader.sources.count(layer) / len(reader.sources)
    mine = POST if kind == POST else LANES
    return float(name == layer and facet == mine)


def _facets(predictor: Predictor, layer: LayerConfig) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The combinations of fields that each group offers, "no protection" left out."""
    table = predictor.coverage
    axes: dict[str, list[dict[str, Any]]] = {"control": _words(table, "control")}
    if isinstance(layer, LinearConfig):
        axes["checksum"] = [{}, *(_checksum(value) for value in table.values("checksum"))]
        axes["weights"] = _words(table, "weights")
        axes["tmr"] = [{}]
        if "spatial" in table.values("tmr"):
            axes["tmr"] += [{"neurons": chosen} for chosen in _neurons(predictor, layer)]
    combined = (_merged(parts) for parts in itertools.product(*axes.values()))
    yield LANES, [fields for fields in combined if fields]
    for facet, key in ((WORDS, "stream"), (POST, "post")):
        yield facet, [fields for fields in _words(table, key) if fields]


def _words(table: Coverage, key: str) -> list[dict[str, Any]]:
    return [{}, *({key: value} for value in table.values(key))]


def _checksum(value: str) -> dict[str, Any]:
    """Fields of a checksum as the table names it, "3" or "3 input"."""
    modulus, _, form = value.partition(" ")
    fields: dict[str, Any] = {"modulus": int(modulus) if modulus.isdecimal() else modulus}
    return fields | ({"form": form} if form else {})


def _merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


def _neurons(predictor: Predictor, layer: LinearConfig) -> list[tuple[int, ...]]:
    """The neurons of the highest scores that fill 1, 2, .. lanes, for each share of `SHARES`."""
    scores = predictor.scores[layer.name]
    lanes = layer.pe // layer.pixels
    each = len(scores) // lanes
    ranked = np.argsort(-scores, kind="stable")
    filled = sorted({max(1, round(share * lanes)) for share in SHARES})
    return [tuple(sorted(ranked[: lane * each].tolist())) for lane in filled]
