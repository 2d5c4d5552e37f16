"""A parsed JSON document becomes a graph; every kind, key, size and name is checked on the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields as record_fields
from typing import Any

import numpy as np

from . import ir
from .errors import InputError
from .names import printable, sanitize

__all__ = ["FORMAT", "VERSION", "decode"]

FORMAT, VERSION = "tercet-graph", 1
MAX_NODES = 4096
MAX_WEIGHTS = 1 << 25

_OPERATORS: dict[str, type[ir.Node]] = {
    cls.__name__: cls
    for cls in (
        ir.Conv2d,
        ir.Dense,
        ir.MaxPool,
        ir.AvgPool,
        ir.GlobalAvgPool,
        ir.Add,
        ir.Concat,
        ir.Flatten,
        ir.Pad,
        ir.ArgMax,
    )
}
_REQUANTIZE: dict[type[ir.Node], Any] = {
    ir.Conv2d: ir.Requantize | ir.Thresholds | None,
    ir.Dense: ir.Requantize | ir.Thresholds | None,
    ir.AvgPool: ir.Requantize,
    ir.GlobalAvgPool: ir.Requantize,
    ir.Concat: tuple,
}
_TABLES: dict[str, type[ir.Requantize | ir.Thresholds]] = {
    cls.__name__: cls for cls in (ir.Requantize, ir.Thresholds)
}


def decode(document: Any) -> ir.Graph:
    """The graph of a document; InputError, naming layer and field, for anything unexpected."""
    fields = _keys(document, "graph", ["format", "version", *_names(ir.Graph)])
    version = fields["version"]
    if fields["format"] != FORMAT or type(version) is not int or version != VERSION:
        raise InputError(f"graph: format or version is not {FORMAT} {VERSION}; build it again")
    nodes = _list(fields["nodes"], "graph: nodes")
    if len(nodes) > MAX_NODES:
        raise InputError(f"graph: {len(nodes)} nodes; at most {MAX_NODES}")
    names = _renamed(fields["input_name"], nodes)
    decoded = tuple(_node(item, i, names) for i, item in enumerate(nodes))
    try:
        return ir.Graph(
            name=sanitize(_text(fields["name"], "graph: name"), ()),
            input_name=names[fields["input_name"]],
            input_shape=_whole_numbers(fields["input_shape"], "graph: input_shape"),
            input_type=_type(fields["input_type"], "graph: input_type"),
            nodes=decoded,
            output=_operand(fields["output"], "graph: output", names),
        )
    except ValueError as error:
        raise InputError(f"graph: {error}") from None


def _renamed(input_name: Any, nodes: list[Any]) -> dict[str, str]:
    """Each name of the file -> its identifier. Good names keep theirs, whatever comes first."""
    names = [_text(input_name, "graph: input_name")]
    for i, node in enumerate(nodes):
        if not isinstance(node, dict) or "name" not in node:
            raise InputError(f"graph: nodes[{i}]: needs a name")
        names.append(_text(node["name"], f"graph: nodes[{i}]: name"))
    result: dict[str, str] = {}
    taken: set[str] = set()
    good = {name for name in names if sanitize(name, ()) == name}
    for name in names:
        if name in result:
            raise InputError(f"{printable(name)}: this name is used twice; rename one")
        result[name] = name if name in good else sanitize(name, taken | good)
        taken.add(result[name])
    return result


def _node(item: dict[str, Any], index: int, names: dict[str, str]) -> ir.Node:
    name = names[item["name"]]
    cls = _OPERATORS.get(_text(item.get("op"), f"{name}: op"))
    if cls is None:
        raise InputError(f"{name}: unknown operator {printable(item['op'])} (nodes[{index}])")
    fields = _keys(item, name, ["op", *_names(cls)])
    values: dict[str, Any] = {
        key: _FIELDS[key](fields[key], f"{name}: {key}")
        for key in _names(cls)
        if key not in ("name", "inputs")
    }
    if not isinstance(values.get("requantize"), _REQUANTIZE.get(cls, object)):
        raise InputError(f"{name}: requantize is not of a kind that {cls.__name__} takes")
    inputs = [
        _operand(v, f"{name}: inputs", names) for v in _list(fields["inputs"], f"{name}: inputs")
    ]
    try:
        return cls(name=name, inputs=tuple(inputs), **values)
    except ValueError as error:
        raise InputError(str(error)) from None


def _names(cls: type) -> list[str]:
    return [field.name for field in record_fields(cls)]


def _keys(value: Any, where: str, keys: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: must be an object")
    missing = [key for key in keys if key not in value]
    unknown = sorted(set(value) - set(keys))
    if missing:
        raise InputError(f"{where}: {missing[0]} is missing; write the graph with tercet")
    if unknown:
        raise InputError(f"{where}: unknown key {printable(unknown[0])}; remove it")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where}: must be a list")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: must be a string")
    return value


def _whole(value: Any, where: str) -> int:
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise InputError(f"{where}: must be a 64-bit integer")
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{where}: must be true or false")
    return value


def _operand(value: Any, where: str, names: dict[str, str]) -> str:
    name = _text(value, where)
    if name not in names:
        raise InputError(f"{where}: there is no {printable(name)}; name the input or a node")
    return names[name]


def _whole_numbers(value: Any, where: str) -> tuple[int, ...]:
    return tuple(_whole(item, where) for item in _list(value, where))


def _optional(decode: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    return lambda value, where: None if value is None else decode(value, where)


def _array(value: Any, where: str) -> ir.IntArray:
    fields = _keys(value, where, ["shape", "values"])
    shape = _whole_numbers(fields["shape"], f"{where}: shape")
    values = _list(fields["values"], f"{where}: values")
    if not 1 <= len(shape) <= 4 or any(n < 1 for n in shape) or math.prod(shape) != len(values):
        raise InputError(f"{where}: {len(values)} values do not fill shape {shape[:4]}")
    if len(values) > MAX_WEIGHTS:
        raise InputError(f"{where}: {len(values)} values; at most {MAX_WEIGHTS}")
    if set(map(type, values)) != {int}:
        raise InputError(f"{where}: values must be integers")
    try:
        return np.array(values, dtype=np.int64).reshape(shape)
    except OverflowError:
        raise InputError(f"{where}: values must be 64-bit integers") from None


def _scale(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not 0 < value < 1e300:
        raise InputError(f"{where}: must be a positive number or null")
    return float(value)


def _type(value: Any, where: str) -> ir.TensorType:
    fields = _keys(value, where, _names(ir.TensorType))
    try:
        return ir.TensorType(
            bits=_whole(fields["bits"], f"{where}: bits"),
            signed=_flag(fields["signed"], f"{where}: signed"),
            zero_point=_whole(fields["zero_point"], f"{where}: zero_point"),
            bipolar=_flag(fields["bipolar"], f"{where}: bipolar"),
            scale=_optional(_scale)(fields["scale"], f"{where}: scale"),
        )
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _table(value: Any, where: str) -> ir.Requantize | ir.Thresholds:
    name = value.get("op") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in _TABLES:
        raise InputError(f"{where}: op must be Requantize or Thresholds")
    cls = _TABLES[name]
    fields = _keys(value, where, ["op", *_names(cls)])
    values = {key: _FIELDS[key](fields[key], f"{where}: {key}") for key in _names(cls)}
    try:
        return cls(**values)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _requantize(value: Any, where: str) -> Any:
    """A table or null; for Concat a list of Requantize and null."""
    if not isinstance(value, list):
        return _optional(_table)(value, where)
    items = tuple(_optional(_table)(item, where) for item in value)
    if any(isinstance(item, ir.Thresholds) for item in items):
        raise InputError(f"{where}: a list holds Requantize and null only")
    return items


_FIELDS: dict[str, Callable[[Any, str], Any]] = {
    "weight": _array,
    "bias": _array,
    "weight_bits": _whole,
    "weight_bipolar": _flag,
    "requantize": _requantize,
    "stride": _whole_numbers,
    "padding": _whole_numbers,
    "dilation": _whole_numbers,
    "groups": _whole,
    "kernel": _whole_numbers,
    "count_include_pad": _flag,
    "multipliers": _whole_numbers,
    "shift": lambda value, where: (_array if isinstance(value, dict) else _whole)(value, where),
    "out": _type,
    "lo": _optional(_whole),
    "hi": _optional(_whole),
    "channels": _whole_numbers,
    "multiplier": _array,
    "m_bits": _whole,
    "bound": _optional(_array),
    "bound_kind": _text,
    "values": _array,
}
