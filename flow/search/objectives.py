"""What a search minimises: the objectives by name, and callables of the user's own."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path

from ...quant.errors import InputError
from ...quant.ir import Graph
from ...quant.names import printable
from ..design import Design

__all__ = ["COSTS", "NAMES", "TOPOLOGY", "Own", "is_own", "load_own", "own_file"]

Own = Callable[[Graph, Design], float]
"""An objective of the user: a number to minimise from the integer graph and its design."""

COSTS = ("luts", "ffs", "dsps", "brams", "latency_cycles", "initiation_interval")
"""Objectives that the estimator gives for a design."""

TOPOLOGY = ("macs", "parameters", "asi_fault", "asi_ber", "asi_worst", "adcr")
"""Objectives that follow from the shape of the graph (`topology`)."""

NAMES = ("error", "vulnerable_bit_cycles", *COSTS, *TOPOLOGY)


def is_own(name: str) -> bool:
    """Whether an objective is FILE.py:NAME."""
    file, colon, _ = name.rpartition(":")
    return bool(colon) and file.endswith(".py")


def own_file(name: str, folder: Path) -> Path:
    """The file of an objective FILE.py:NAME beside the space file. InputError if there is none."""
    path = folder / name.rpartition(":")[0]
    if not path.is_file():
        raise InputError(f"objective {printable(name)}: no such file as {printable(path.name)}")
    return path


def load_own(name: str, folder: Path) -> Own:
    """Run the file of FILE.py:NAME (the user named it) and take the callable NAME.

    It is called with the integer graph and the prepared design, and returns a finite number.
    Raises InputError naming the objective: no such file or name, or nothing that can be called.
    """
    shown, attribute = printable(name), name.rpartition(":")[2]
    loaded = _run(own_file(name, folder), shown)
    if not attribute.isidentifier() or not hasattr(loaded, attribute):
        raise InputError(f"objective {shown}: the file defines no such name")
    found: Own = getattr(loaded, attribute)
    if not callable(found):
        raise InputError(
            f"objective {shown}: is a {type(found).__name__}; it must be a function of the graph "
            "and the design"
        )
    return found


def _run(path: Path, shown: str) -> types.ModuleType:
    name = f"_objective_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            f"objective {shown}: running the file failed: {type(error).__name__}: "
            f"{printable(str(error))}"
        ) from error
    finally:
        del sys.modules[name]
    return module
