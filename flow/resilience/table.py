"""A graph's sensitivity, measured once and kept."""

from __future__ import annotations

import json
from pathlib import Path

from ...quant import serialize
from ...quant.criticality import macs_per_neuron
from ...quant.errors import InputError
from ...quant.ir import Conv2d, Dense, Graph, IntArray
from ...quant.sensitivity import Sensitivity, measure
from ...sim import cache

__all__ = ["sensitivity"]

VERSION = "1"
"""Of the measurement: another one is another entry of the cache."""
IMAGES = 64
LEAST, MOST, MACS = 128, 2048, 400_000_000
"""Bounds of the flips of each kind of word, and the multiplications that they may cost each."""


def sensitivity(
    graph: Graph,
    x: IntArray,
    *,
    seed: int = 0,
    images: int = IMAGES,
    trials: int | None = None,
) -> Sensitivity:
    """The sensitivity of `graph` on the first `images` of `x`, from the cache if it is there.

    `trials` flips of each kind of word of a layer, by default 2048 for small networks and fewer,
    down to 128, for large ones; as `quant.sensitivity.measure`. Raises InputError for bad inputs or
    a cache that is not the caller's.
    """
    trials = _affordable(graph) if trials is None else trials
    effort = f"{seed} {images} {trials}"
    parts = (VERSION, effort, serialize.digest(graph), x[:images].astype("<i8").tobytes())
    name = cache.key(*parts)

    def build(folder: Path) -> None:
        found = measure(graph, x, seed=seed, images=images, trials=trials)
        (folder / "sensitivity.json").write_text(json.dumps(found.to_json()) + "\n")

    path = cache.entry("sensitivity", name, build) / "sensitivity.json"
    try:
        return Sensitivity.from_json(json.loads(path.read_text()))
    except (ValueError, OSError):
        raise InputError(f"{path}: cannot be read; remove it") from None


def _affordable(graph: Graph) -> int:
    macs = macs_per_neuron(graph)
    neurons = {node.name: node.out_channels for node in graph if isinstance(node, Conv2d | Dense)}
    total = sum(each * neurons[layer] for layer, each in macs.items())
    return max(LEAST, min(MOST, MACS // max(1, total)))
