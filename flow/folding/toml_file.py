"""Foldings as TOML and JSON."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...hw.configure import Fold
from ...quant.errors import InputError
from ...quant.ir import Graph
from ...quant.names import printable
from .balance import balance

__all__ = ["folding_json", "load_folding"]

_KEYS = ("pe", "simd", "multiplier", "weights", "pixels")


def folding_json(folding: Mapping[str, Fold]) -> dict[str, Any]:
    """The folding as it stands in the manifest and in the TOML file."""
    return {name: vars(fold) for name, fold in folding.items()}


def load_folding(path: Path, graph: Graph) -> dict[str, Fold]:
    """Read [layer.NAME] pe, simd, pixels, multiplier, weights; layers not named are balanced.

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
        folding[name] = _fold(at, entry)
    return folding


def _fold(at: str, entry: Any) -> Fold:
    if not isinstance(entry, dict) or set(entry) - set(_KEYS):
        raise InputError(f"{at}: takes {', '.join(_KEYS[:-1])} and {_KEYS[-1]}")
    for key in ("pe", "simd", "pixels"):
        if type(entry.get(key, 1)) is not int or entry.get(key, 1) < 1:
            raise InputError(f"{at}: {key} must be a positive integer, not {entry[key]!r}")
    for key in ("multiplier", "weights"):
        if not isinstance(entry.get(key, ""), str):
            raise InputError(f"{at}: {key} must be a string, not {entry[key]!r}")
    return Fold(**entry)
