"""The way through: passes, folding, emission, synthesis, estimates, command line.

`tercet.flow` exports what programs use: `load`, `build`, `run`, `estimate`, `inject`, `Objective`.
They are imported when they are first used, so that importing the package is cheap. Three of them
share their name with the module they come from; the function is what the package shows.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..quant.importers.model_file import load_model as load
    from ..sim.campaign import run_campaign as inject
    from .build import build
    from .estimate import estimate
    from .objective import Objective
    from .run import run

__all__ = ["Objective", "build", "estimate", "inject", "load", "run"]

_PLACES = {
    "Objective": (".objective", "Objective"),
    "build": (".build", "build"),
    "estimate": (".estimate", "estimate"),
    "inject": ("..sim.campaign", "run_campaign"),
    "load": ("..quant.importers.model_file", "load_model"),
    "run": (".run", "run"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module, __name__), attribute)


class _Package(types.ModuleType):
    """Importing `tercet.flow.build` must not replace the function `build` by the module."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _PLACES or not isinstance(value, types.ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
