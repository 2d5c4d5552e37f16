"""Graphs as JSON, version 1 (docs/ir.md), read as data from a stranger.

Reading checks the size before parsing, then kinds, keys and names (`decode`), then the whole graph
through shapes and ranges: what loads, runs. Every failure is an InputError of one line that names
the layer and the field.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import ir, ranges
from .decode import FORMAT, VERSION, decode
from .errors import InputError
from .names import printable

__all__ = ["digest", "from_json", "load", "save", "to_json"]

MAX_BYTES = 128 << 20


def to_json(graph: ir.Graph) -> str:
    """The graph as text, one node on a line; `from_json` gives an equal graph back."""
    head = {key: value for key, value in _document(graph).items() if key != "nodes"}
    lines = [_dumps(_encode(node)) for node in graph]
    return f"{_dumps(head)[:-1]},\n" + '"nodes":[\n' + ",\n".join(lines) + "\n]}\n"


def digest(graph: ir.Graph) -> str:
    """SHA-256 of the graph's canonical JSON (sorted keys, no spaces), in hexadecimal."""
    return hashlib.sha256(_dumps(_document(graph)).encode()).hexdigest()


def save(graph: ir.Graph, path: str | Path) -> None:
    """Write the graph; the file appears whole or not at all."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(to_json(graph))
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: str | Path) -> ir.Graph:
    """The graph in a file; InputError that begins with the file's name."""
    shown = printable(Path(path).name)
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        return from_json(data.decode("utf-8"))
    except OSError as error:
        raise InputError(f"{shown}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{shown}: is not UTF-8 text; give a graph.json") from None
    except InputError as error:
        raise InputError(f"{shown}: {error}") from None


def from_json(text: str) -> ir.Graph:
    """The graph of `text`; names that are no identifiers are replaced, everywhere alike."""
    if len(text) > MAX_BYTES:
        raise InputError(f"graph: more than {MAX_BYTES >> 20} MiB of JSON; use a smaller network")
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise InputError("graph: JSON is nested too deeply; write it with tercet") from None
    except ValueError as error:
        raise InputError(f"graph: is not JSON: {printable(str(error))}") from None
    graph = decode(document)
    ranges.infer(graph)
    return graph


def _document(graph: ir.Graph) -> dict[str, Any]:
    fields = {field.name: getattr(graph, field.name) for field in dataclasses.fields(graph)}
    return {"format": FORMAT, "version": VERSION} | {k: _encode(v) for k, v in fields.items()}


def _dumps(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"shape": list(value.shape), "values": value.ravel().tolist()}
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        named = isinstance(value, ir.Node | ir.Requantize | ir.Thresholds)
        return fields | ({"op": type(value).__name__} if named else {})
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise InputError("graph: an object has the same key twice; write it with tercet")
    return result


def _constant(text: str) -> NoReturn:
    raise InputError(f"graph: {text} is no number of a graph; use finite numbers")
