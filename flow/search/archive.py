"""The archive of a search: every candidate in the order in which it was proposed, as JSON.

One file that is replaced as a whole, between two generations. It holds the lineage and the state of
the engine, and no times: the same space gives the same archive, byte for byte.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...quant.errors import InputError
from ...quant.names import printable

__all__ = ["NAME", "Archive", "Record", "load_archive"]

Json = dict[str, Any]
SCHEMA = 1
NAME = "archive.json"


@dataclass(frozen=True)
class Record:
    """A candidate and what became of it: `objectives`, or the reason why there are none.

    `failure`: its evaluation raised; `refused`: a constraint was broken before anything was spent;
    `broken`: one that only the evaluation showed. `parents` are numbers of earlier records.
    """

    number: int
    generation: int
    encoding: tuple[int, ...]
    genome: Mapping[str, Any]
    parents: tuple[int, ...] = ()
    objectives: Mapping[str, float] | None = None
    failure: str | None = None
    refused: str | None = None
    broken: str | None = None

    @property
    def feasible(self) -> bool:
        """Whether it was evaluated and breaks no constraint."""
        return self.objectives is not None and self.broken is None

    @property
    def text(self) -> str:
        """The record as one line of JSON, without what it has not."""
        return json.dumps({key: value for key, value in self._items() if value is not None})

    def _items(self) -> list[tuple[str, Any]]:
        names = ("number", "generation", "encoding", "genome", "parents")
        return [(name, getattr(self, name)) for name in (*names, *_OUTCOMES)]


_OUTCOMES = ("objectives", "failure", "refused", "broken")


@dataclass
class Archive:
    """All records of a search in a space, and what it needs to go on.

    `space` is the space's document, `digest` its digest; `generations` that are finished;
    `reference` the point of the hypervolume, by objective; `exhausted`: nothing new is left to
    propose.
    """

    digest: str
    space: Json
    engine: Json = field(default_factory=dict)
    reference: dict[str, float] | None = None
    generations: int = 0
    exhausted: bool = False
    records: list[Record] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def feasible(self) -> list[Record]:
        """Records with objectives that break no constraint."""
        return [record for record in self.records if record.feasible]

    @property
    def evaluations(self) -> int:
        """Candidates on which something was spent: they have objectives, or failed."""
        return sum(record.refused is None for record in self.records)

    def drop_unfinished(self) -> None:
        """Forget the records of a generation that did not end: `engine` knows nothing of it."""
        while self.records and self.records[-1].generation >= self.generations:
            self.records.pop()

    def to_json(self) -> str:
        """The text of the file, a record a line; records that were once written never change."""
        head = {"schema": SCHEMA} | {name: getattr(self, name) for name in _HEAD}
        self._lines += [record.text for record in self.records[len(self._lines) :]]
        records = ",\n".join(self._lines)
        return f'{json.dumps(head)[:-1]},\n"records": [\n{records}\n]}}\n'

    def save(self, folder: Path) -> None:
        """Write `folder`/archive.json; a reader sees the old file or the new one."""
        path = folder / NAME
        handle, part = tempfile.mkstemp(prefix=f".{NAME}.", dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(self.to_json())
            Path(part).chmod(0o644)
            Path(part).replace(path)
        except OSError as error:
            Path(part).unlink(missing_ok=True)
            shown = f"{printable(str(folder))}/{NAME}"
            raise InputError(f"{shown}: {error.strerror or error}") from None

    def check_space(self, digest: str, space: Json, where: str) -> None:
        """InputError that says what differs unless the archive is of that space."""
        if digest != self.digest:
            found = _differences(self.space, json.loads(json.dumps(space)))
            raise InputError(
                f"{where}: of another space; it differs in {', '.join(found) or 'its digest'}; "
                "give the same space file, or another folder with -o"
            )


_HEAD = ("digest", "space", "engine", "reference", "generations", "exhausted")


def load_archive(folder: Path) -> Archive:
    """Read `folder`/archive.json. Raises InputError naming the file."""
    path = folder / NAME
    shown = f"{printable(str(folder))}/{NAME}"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{shown}: no such archive; run without --resume") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{shown}: cannot be read: {printable(str(error))}") from None
    try:
        if raw["schema"] != SCHEMA:
            raise InputError(f"{shown}: of another version of tercet; use another folder")
        records = [_record(entry) for entry in raw["records"]]
        return Archive(**{name: raw[name] for name in _HEAD}, records=records)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{shown}: not the archive of a search; use another folder") from None


def _record(entry: Json) -> Record:
    lists = {name: tuple(int(one) for one in entry[name]) for name in ("encoding", "parents")}
    return Record(**entry | lists)


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], at: str = "") -> list[str]:
    """Keys whose values differ, with both values where they are short; genes by their name."""
    found = []
    for key in sorted(one.keys() | other.keys()):
        old, new = _named(one.get(key)), _named(other.get(key))
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{at}{key}.")
        elif old != new:
            text = f"{at}{key} ({_short(old)}, not {_short(new)})"
            found.append(printable(text) if len(text) < 80 else printable(f"{at}{key}"))
    return found


def _named(value: Any) -> Any:
    """A list of genes as a table by name, anything else as it is."""
    if not isinstance(value, list | tuple) or not value:
        return value
    if not all(isinstance(one, dict) and "name" in one for one in value):
        return value
    return {one["name"]: one.get("choices") for one in value}


def _short(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)
