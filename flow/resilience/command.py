"""`tercet estimate --resilience`: the inputs that it flips bits on, and the key of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...quant.errors import InputError
from ..design import Design
from ..frames import read_frames
from .estimate import resilience_estimate
from .table import sensitivity

__all__ = ["predicted"]


def predicted(design: Design, model: str, calibration: Path | None) -> dict[str, Any]:
    """RESILIENCE of a design of MODEL, measured on `calibration`, or on DIR/vectors.npz of a build
    directory; with the `images` and `trials` of its sensitivity. InputError without either.
    """
    path = calibration
    if path is None and Path(model).is_dir():
        path = Path(model) / "vectors.npz"
    if path is None:
        raise InputError("--resilience: needs inputs to flip bits on; give --calibration X.npz")
    frames, _ = read_frames(design.graph, path)
    table = sensitivity(design.graph, frames)
    effort = {"images": table.images, "trials": table.trials}
    return resilience_estimate(design, table).to_json() | effort
