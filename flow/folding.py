"""Folding: how many lanes and multipliers each layer gets, from TOML or balanced automatically."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..hw.configure import Fold, chain
from ..quant import shapes
from ..quant.errors import InputError
from ..quant.ir import ArgMax, Conv2d, Dense, Graph, Node
from ..quant.names import printable

__all__ = ["AUTO_MULTIPLIERS", "balance", "folding_json", "load_folding"]

AUTO_MULTIPLIERS = 32
"""Multipliers that automatic folding spends on the whole network."""


def folding_json(folding: Mapping[str, Fold]) -> dict[str, Any]:
    """The folding as it stands in the manifest and in the TOML file."""
    return {name: vars(fold) for name, fold in folding.items()}


def load_folding(path: Path, graph: Graph) -> dict[str, Fold]:
    """Read [layer.NAME] pe, simd, multiplier; layers that are not named are balanced.

    Raises InputError naming the file, the layer and the key.
    """
    where = printable(path.name)
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{where}: no such folding") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not a TOML file: {printable(str(error))}") from None
    layers = raw.get("layer", {})
    if set(raw) - {"layer"} or not isinstance(layers, dict):
        raise InputError(f"{where}: a folding holds tables [layer.NAME] only")
    folding = balance(graph)
    for name, entry in layers.items():
        at = f"{where}: [layer.{printable(name)}]"
        if name not in folding:
            raise InputError(f"{at}: no such layer; the graph has {', '.join(folding)}")
        if not isinstance(entry, dict) or set(entry) - {"pe", "simd", "multiplier"}:
            raise InputError(f"{at}: takes pe, simd and multiplier")
        for key in ("pe", "simd"):
            if type(entry.get(key, 1)) is not int or entry.get(key, 1) < 1:
                raise InputError(f"{at}: {key} must be a positive integer, not {entry[key]!r}")
        folding[name] = Fold(**{"pe": 1, "simd": 1, **entry})
    return folding


def balance(graph: Graph, multipliers: int = AUTO_MULTIPLIERS) -> dict[str, Fold]:
    """The fastest folding within `multipliers` in all: every layer meets one common interval.

    For each interval a layer takes the fewest multipliers that meet it; the smallest interval whose
    sum fits is found by bisection. At least one multiplier a layer. Pools get the channels that
    meet the interval.
    """
    sizes = shapes.infer(graph)
    nodes = chain(graph)
    choices = {node.name: _choices(node, sizes) for node in nodes}

    def pick(interval: int) -> dict[str, Fold]:
        return {
            name: next((fold for cost, cycles, fold in found if cycles <= interval), found[-1][2])
            for name, found in choices.items()
        }

    def cost(folding: dict[str, Fold]) -> int:
        linear = (node.name for node in nodes if isinstance(node, Conv2d | Dense))
        return sum(folding[name].pe * folding[name].simd for name in linear)

    low, high = 1, max(cycles for found in choices.values() for _, cycles, _ in found)
    while low < high:
        middle = (low + high) // 2
        if cost(pick(middle)) <= multipliers:
            high = middle
        else:
            low = middle + 1
    return pick(low)


def _choices(node: Node, sizes: dict[str, tuple[int, ...]]) -> list[tuple[int, int, Fold]]:
    """(cost, cycles a frame, folding), cheapest first; of equal cost the most square first."""
    if isinstance(node, ArgMax):
        return [(0, sizes[node.inputs[0]][-1], Fold())]
    shape = sizes[node.name]
    pixels = shape[0] * shape[1] if len(shape) == 3 else 1
    found = []
    if isinstance(node, Conv2d | Dense):
        groups = node.groups if isinstance(node, Conv2d) else 1
        per_group, inner = node.out_channels // groups, node.weight[0].size
        for pe in _divisors(per_group):
            for simd in _divisors(inner):
                cycles = pixels * (node.out_channels // pe) * (inner // simd)
                found.append((pe * simd, cycles, Fold(pe, simd)))
    else:
        kernel = getattr(node, "kernel", sizes[node.inputs[0]][:2])
        for pe in _divisors(shape[-1]):
            found.append((pe, pixels * shape[-1] // pe * kernel[0] * kernel[1], Fold(pe)))
    return sorted(found, key=lambda item: (item[0], abs(item[2].pe - item[2].simd)))


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
