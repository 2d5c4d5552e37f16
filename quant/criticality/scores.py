"""The criticality scores of neurons by name; docs/criticality.md says how well each one does."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError
from ..ir import Graph, IntArray
from ..names import printable
from .activation import activations, class_oriented
from .contribution import contributions
from .injection import msb_scores, neuron_scores
from .propagate import Propagation
from .taylor import taylor

__all__ = ["SCORES", "ranks", "score"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Scores = dict[str, FloatArray]

SCORES = ("activation", "contribution", "class", "taylor", "injection", "msb", "combined")
"""What `score` takes."""


def score(graph: Graph, x: IntArray, name: str, *, seed: int = 0) -> Scores:
    """Score `name` of every neuron of each Conv2d and Dense: [out_channels] by layer, sum 1.

    A score says how much one wrong element of the neuron matters, on the images `x` [n,
    *input_shape]: `activation` mean |activation|; `contribution` to the predicted class's logit;
    `class`, the largest of the (predicted) classes' mean contributions; `taylor` |a dL/da|
    (needs torch); `injection` and `msb`, measured by flips that `seed` draws; `combined`, the
    larger of the ranks by `contribution` and by `class`. All are 0 where none is above.
    Raises InputError for another name or no images.
    """
    if name not in SCORES:
        raise InputError(f"score must be one of {SCORES}, not {printable(name)}")
    if not len(x):
        raise InputError(f"score {name}: needs images, not 0")
    if name == "injection":
        return _normalised(neuron_scores(graph, x, seed=seed))
    if name == "msb":
        return _normalised(msb_scores(graph, x, seed=seed))
    run = Propagation(graph, x)
    if name in ("activation", "taylor"):
        found = activations(run) if name == "activation" else taylor(run)
        return _normalised(_means(found))
    values = contributions(run)
    single = {layer: class_oriented(v, run.top1) for layer, v in values.items()}
    if name == "class":
        return _normalised(single)
    if name == "combined":
        pairs = zip(ranks(_means(values)).items(), ranks(single).values(), strict=True)
        return _normalised({layer: np.maximum(a, b) for (layer, a), b in pairs})
    return _normalised(_means(values))


def _means(per_image: Scores) -> Scores:
    return {layer: values.mean(axis=0) for layer, values in per_image.items()}


def ranks(scores: Scores) -> Scores:
    """Ranks in the whole network, from 1 for the least, equal scores in the middle of theirs."""
    if not scores:
        return {}
    flat = np.concatenate(list(scores.values()))
    _, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle = (ends - (counts - 1) / 2)[inverse]
    parts = np.split(middle, np.cumsum([len(values) for values in scores.values()])[:-1])
    return dict(zip(scores, parts, strict=True))


def _normalised(scores: Scores) -> Scores:
    total = sum(float(values.sum()) for values in scores.values())
    return {layer: values / total if total else values for layer, values in scores.items()}
