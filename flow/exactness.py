"""How near the layers of a quantised FILE.onnx come to it: for the JSON and for the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

__all__ = ["explained", "statements"]

Result = dict[str, Any]


def statements(model: str) -> Result:
    """{notes, exactness: [{layer, form, share, largest, note, exact}]}; empty for other models.

    `share` is that of the accumulators whose result is not the file's real number rounded half to
    even, `largest` the largest difference in steps. Raises InputError naming the node.
    """
    if not model.endswith(".onnx"):
        return {}
    from ..quant.importers.onnx_model import describe

    found = describe(Path(model))
    if found is None:
        return {}
    layers = [asdict(item) | {"exact": item.exact} for item in found.exactness]
    return {"notes": list(found.notes), "exactness": layers}


def explained(show: Callable[[Result], None]) -> Callable[[Result], None]:
    """`show`, and behind it what `statements` found."""
    from .report_text import exactness

    def both(result: Result) -> None:
        show(result)
        exactness(result)

    return both
