"""The way through: passes, folding, emission, synthesis, estimates, command line.

`tercet.flow` exports what programs use: `load`, `build`, `run`, `estimate`, `resilience_estimate`,
`inject`, `Objective`. They are imported when they are first used: importing the package is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..quant.importers.model_file import load_model as load
    from ..sim.campaign import run_campaign as inject
    from .builder import build
    from .estimator import estimate
    from .objective import Objective
    from .resilience import resilience_estimate
    from .runner import run

__all__ = ["Objective", "build", "estimate", "inject", "load", "resilience_estimate", "run"]

_PLACES = {
    "Objective": (".objective", "Objective"),
    "build": (".builder", "build"),
    "estimate": (".estimator", "estimate"),
    "inject": ("..sim.campaign", "run_campaign"),
    "load": ("..quant.importers.model_file", "load_model"),
    "resilience_estimate": (".resilience", "resilience_estimate"),
    "run": (".runner", "run"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module, __name__), attribute)
