"""Plans and foldings as the text of a TOML file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["toml_text"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(tables: Mapping[str, Any]) -> str:
    """The text of a mapping whose values are tables, or tables of tables, of plain values.

    >>> print(toml_text({"layer": {"fc": {"control": "tmr", "tmr": {"neurons": [0, 3]}}}}), end="")
    [layer.fc]
    control = "tmr"
    tmr = { neurons = [0, 3] }
    """
    lines: list[str] = []
    for name, table in tables.items():
        nested = table and all(isinstance(value, Mapping) for value in table.values())
        if nested and name != "default":
            for inner, entry in table.items():
                lines += ["", f"[{_key(name)}.{_key(inner)}]", *_entries(entry)]
        elif table:
            lines += ["", f"[{_key(name)}]", *_entries(table)]
    return "\n".join(lines[1:]) + "\n"


def _entries(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items()]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_entries(value)) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return json.dumps(value)  # strings, numbers and booleans are written alike


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key)
