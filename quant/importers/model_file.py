"""MODEL on the command line becomes an integer graph: a file, or a name in a Python file."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .. import serialize
from ..errors import InputError
from ..float_graph import FloatGraph
from ..ir import Graph
from ..names import printable, sanitize
from ..npz import load_array
from ..quantize import QuantConfig, quantize
from .onnx_model import load_onnx
from .torch_module import import_program, import_torch

__all__ = ["load_model"]

KINDS = "FILE.onnx, graph.json, FILE.py:NAME or FILE.pt2"


def load_model(
    spec: str,
    *,
    calibration: Path | None = None,
    config: QuantConfig | None = None,
    trust_model: bool = False,
) -> Graph:
    """The integer graph that `spec` names.

    `graph.json` is read as it is; `config` and `calibration` do not apply. FILE.py:NAME runs the
    file and takes NAME: a torch module, a (module, example input) pair, or a callable that returns
    one. FILE.pt2, written by torch.export.save, needs `trust_model`, because loading one can run
    code. FILE.onnx is data; a quantised one needs neither `calibration` nor `config`. All float
    models are quantised with the array `x` [n, c, h, w] or [n, features] of the .npz file
    `calibration`. Raises InputError, naming the file or option.
    """
    path, _, attribute = spec.rpartition(":")
    if path.endswith(".py"):
        _require_torch()
        model = _from_python(Path(path), attribute)
        frames = _calibration(spec, calibration)
        graph = dataclasses.replace(_import(model, frames), name=sanitize(attribute, ()))
        return quantize(graph, frames, config or QuantConfig())
    file = Path(spec)
    if file.suffix == ".json":
        _require(file)
        return serialize.load(file)
    if file.suffix == ".onnx":
        _require(file)

        def data() -> np.ndarray[Any, Any]:
            _require_torch()
            return _calibration(spec, calibration)

        return load_onnx(file, data, config).graph
    if file.suffix == ".pt2":
        _require(file)
        if not trust_model:
            raise InputError(
                f"{printable(file.name)}: loading a .pt2 file can run code from it; "
                "give --trust-model if you trust its author"
            )
        _require_torch()
        frames = _calibration(spec, calibration)
        return quantize(_from_export(file), frames, config or QuantConfig())
    raise InputError(_not_a_model(file))


def _not_a_model(file: Path) -> str:
    name = printable(file.name)
    if file.suffix == ".py":
        return f"{name}: name the module or function in it, as {name}:NAME"
    return f"{name}: not a model file; a model is {KINDS}"


def _require(file: Path) -> None:
    if not file.is_file():
        raise InputError(f"{printable(str(file))}: no such file")


def _require_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise InputError("quantising a model needs torch: pip install 'tercet[torch]'")


def _calibration(spec: str, path: Path | None) -> np.ndarray[Any, Any]:
    if path is None:
        raise InputError(
            f"{printable(spec)}: a float model needs --calibration X.npz with an array 'x' "
            "of typical inputs"
        )
    data = load_array(Path(path))
    if data.ndim not in (2, 4):
        raise InputError(
            f"{printable(Path(path).name)}: array 'x' has shape {data.shape}; "
            "it must be [n, channels, rows, columns] or [n, features]"
        )
    return data


def _from_python(file: Path, attribute: str) -> Any:
    """Run the file (the user named it) and take `attribute`, called if it is a function."""
    import torch

    _require(file)
    shown = f"{printable(file.name)}:{printable(attribute)}"
    loaded = _run(file)
    if not attribute.isidentifier() or not hasattr(loaded, attribute):
        raise InputError(f"{shown}: the file defines no such name")
    model = getattr(loaded, attribute)
    if callable(model) and not isinstance(model, torch.nn.Module):
        try:
            model = model()
        except Exception as error:
            raise InputError(f"{shown}: calling it failed: {_show(error)}") from error
    module = model[0] if isinstance(model, tuple) and len(model) == 2 else model
    if not isinstance(module, torch.nn.Module):
        raise InputError(
            f"{shown}: gives a {type(module).__name__}; it must give a torch.nn.Module or a "
            "(module, example input) pair"
        )
    return model


def _run(file: Path) -> types.ModuleType:
    name = f"_model_{file.stem}"
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{printable(file.name)}: running it failed: {_show(error)}") from error
    finally:
        del sys.modules[name]
    return module


def _show(error: BaseException) -> str:
    return f"{type(error).__name__}: {printable(str(error))}"


def _import(model: Any, data: np.ndarray[Any, Any]) -> FloatGraph:
    """Trace for the example input's shape, or that of the calibration data."""
    if not isinstance(model, tuple):
        return import_torch(model, data.shape[1:])
    module, example = model
    if not hasattr(example, "shape"):
        raise InputError(f"the example input is a {type(example).__name__}; it must be a tensor")
    return import_torch(module, tuple(example.shape[1:]))


def _from_export(file: Path) -> FloatGraph:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The only place that loads a program. It falls back to unpickling, which runs code
            # from the file: load_model asks for trust_model first.
            program = torch.export.load(file)
    except Exception as error:
        raise InputError(f"{printable(file.name)}: cannot be loaded: {_show(error)}") from error
    return import_program(program, file.stem)
