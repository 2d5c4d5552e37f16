"""Checked reading of a JSON object from a file: every error names the file and the key."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..quant.errors import InputError
from ..quant.names import printable

__all__ = ["Fields"]

T = TypeVar("T")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*")


class Fields:
    """One JSON object `value` of the file `path`, found there under the key `where`."""

    def __init__(self, path: Path, where: str, value: Any) -> None:
        self.path, self.where = path, where
        if not isinstance(value, dict):
            raise self.error("", "must be an object")
        self.value: dict[str, Any] = value

    def error(self, key: str, what: str) -> InputError:
        where = ".".join(part for part in (self.where, key) if part) or "the file"
        return InputError(f"{self.path}: {where} {what}; build the directory again")

    def get(self, key: str) -> Any:
        if key not in self.value:
            raise self.error(key, "is missing")
        return self.value[key]

    def integer(self, key: str, least: int = 0, most: int = 1 << 48) -> int:
        value = self.get(key)
        if type(value) is not int or not least <= value <= most:
            raise self.error(key, f"must be an integer in {least}..{most}")
        return value

    def optional(self, key: str) -> int | None:
        return None if self.value.get(key) is None else self.integer(key)

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str):
            raise self.error(key, "must be a string")
        return value

    def identifier(self, key: str) -> str:
        return self._matching(key, self.text(key), _IDENTIFIER)

    def hierarchy(self, key: str) -> str:
        return self._matching(key, self.text(key), _PATH)

    def _matching(self, key: str, value: str, pattern: re.Pattern[str]) -> str:
        if not pattern.fullmatch(value):
            raise self.error(key, f"is not a name: {printable(value)}")
        return value

    def boolean(self, key: str) -> bool:
        value = self.get(key)
        if type(value) is not bool:
            raise self.error(key, "must be true or false")
        return value

    def integers(self, key: str, least: int = 0) -> tuple[int, ...]:
        value = self.get(key)
        if not isinstance(value, list) or any(type(v) is not int or v < least for v in value):
            raise self.error(key, f"must be a list of integers >= {least}")
        return tuple(value)

    def names(self, key: str) -> tuple[str, ...]:
        value = self.get(key)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.error(key, "must be a list of strings")
        return tuple(self._matching(key, v, _PATH) for v in value)

    def child(self, key: str) -> Fields:
        return Fields(self.path, ".".join(p for p in (self.where, key) if p), self.get(key))

    def each(self, key: str, build: Callable[[Fields], T]) -> tuple[T, ...]:
        value = self.get(key)
        if not isinstance(value, list):
            raise self.error(key, "must be a list")
        prefix = f"{self.where}.{key}" if self.where else key
        return tuple(
            build(Fields(self.path, f"{prefix}[{i}]", item)) for i, item in enumerate(value)
        )
