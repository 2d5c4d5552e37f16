"""The keys of a table in a space file, read with their types and ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ...quant.errors import InputError
from ...quant.names import printable

__all__ = ["Table"]

MISSING = object()


class Table:
    """A table of a file: every reader takes its key away, `end` refuses what is left.

    A reader without a `default` refuses a table that lacks the key. Raises InputError naming the
    file, the table and the key.
    """

    def __init__(self, file: str, name: str, raw: Any) -> None:
        self.file, self.name, self.at = file, name, f"{file}: [{name}]"
        if not isinstance(raw, dict):
            raise InputError(f"{self.at} must be a table")
        self.left: dict[str, Any] = dict(raw)
        self.known: list[str] = []

    def end(self) -> None:
        """InputError for a key that nothing has read."""
        for key in self.left:
            raise InputError(
                f"{self.at} unknown key {printable(key)!r}; known: {', '.join(self.known)}"
            )

    def take(self, key: str, want: str, default: Any = MISSING) -> Any:
        """The value of `key`, whatever it is; `want` says what to give."""
        self.known.append(key)
        value = self.left.pop(key, default)
        if value is MISSING:
            raise InputError(f"{self.at} {printable(key)} is missing; give {want}")
        return value

    def wrong(self, key: str, want: str, value: Any) -> InputError:
        """The error of a value that is not what is wanted."""
        return InputError(
            f"{self.at} {printable(key)} must be {want}, not {printable(repr(value))}"
        )

    def integer(self, key: str, least: int, default: Any = MISSING) -> int:
        """An integer of `least` or more."""
        want = f"an integer >= {least}"
        value = self.take(key, want, default)
        if type(value) is not int or value < least:
            raise self.wrong(key, want, value)
        return value

    def word(self, key: str, allowed: Iterable[str], default: Any = MISSING) -> str:
        """One of the words allowed."""
        words = tuple(allowed)
        want = f"one of {', '.join(words)}"
        value = self.take(key, want, default)
        if not isinstance(value, str) or value not in words:
            raise self.wrong(key, want, value)
        return value

    def number(self, key: str, most: float = float("inf")) -> float:
        """A number above 0, at most `most`."""
        want = "a number above 0" if most == float("inf") else f"above 0 and at most {most:g}"
        value = self.take(key, want)
        if type(value) not in (int, float) or not 0 < value <= most or value == float("inf"):
            raise self.wrong(key, want, value)
        return float(value)

    def integers(
        self, key: str, least: int, most: int | None = None, default: Any = MISSING
    ) -> tuple[int, ...]:
        """A gene's choices: different integers within limits."""
        want = f"integers >= {least}" if most is None else f"integers {least}..{most}"

        def fits(one: Any) -> bool:
            return type(one) is int and least <= one <= (one if most is None else most)

        return self._choices(key, want, fits, default)

    def odd(self, key: str) -> tuple[int, ...]:
        """A gene's choices: different odd integers."""
        want = "odd integers >= 1"
        return self._choices(key, want, lambda one: type(one) is int and one > 0 and one % 2 == 1)

    def words(self, key: str, allowed: Iterable[str], default: Any = MISSING) -> tuple[str, ...]:
        """A gene's choices: different words of those allowed."""
        words = tuple(allowed)
        want = f"one of {', '.join(words)}"
        return self._choices(key, want, lambda one: isinstance(one, str) and one in words, default)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of different strings."""
        return self._choices(key, "strings", lambda one: isinstance(one, str))

    def _choices(
        self, key: str, want: str, fits: Callable[[Any], bool], default: Any = MISSING
    ) -> tuple[Any, ...]:
        value = self.take(key, want, default)
        choices = list(value) if isinstance(value, list | tuple) else [value]
        if not choices:
            raise InputError(f"{self.at} {key} is empty; give at least one choice")
        for one in choices:
            if not fits(one):
                raise self.wrong(key, want, one)
        if len(set(choices)) < len(choices):
            raise InputError(f"{self.at} {key} names a choice twice")
        return tuple(choices)
