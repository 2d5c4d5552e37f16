"""Campaigns kept in DIR/campaigns/<id>/campaign.sqlite: what was asked, and each experiment.

Experiments come in batches, one row and one transaction a batch, so that a campaign that is killed
at any moment holds whole batches only, and goes on after the last. The id is made of all that the
results depend on: design, inputs, arguments, seed, versions of the tools.

Table `campaign` (key, value): JSON texts; `header` what was asked, `report` once it is finished.
Table `site` (number, name, kind, role, layer, lane, bits). Table `batch` (first, experiments,
seconds, and one column a field of `Batch`): little-endian arrays of `_COLUMNS`, zlib-compressed;
those of `_MORE` may be null, or missing from a file of an earlier version.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..quant.errors import InputError
from ..quant.names import printable
from . import toolchain
from .targets import Site

__all__ = [
    "Batch",
    "Shelf",
    "SiteRow",
    "Table",
    "campaign_id",
    "folder",
    "load",
    "load_sites",
    "versions",
]

Json = dict[str, Any]
Column = np.ndarray[Any, np.dtype[Any]]
#: Column of a batch -> type of its numbers.
_COLUMNS = {
    "events": "<u4",
    "site": "<u4",
    "bit": "<u4",
    "mode": "u1",
    "start": "<u4",
    "stop": "<u4",
    "input": "<u4",
    "outcome": "u1",
    "inferences": "<i4",
    "disorder": "u1",
}
#: The same, of columns that may be null.
_MORE = {"detection_cycles": "<i4", "critical": "u1"}
_KINDS = _COLUMNS | _MORE
_SITE = "number integer primary key, name text, kind text, role text, layer text, lane integer"
_BATCH = "first integer primary key, experiments integer not null, seconds real not null"
_TABLES = (
    "create table campaign (key text primary key, value text not null)",
    f"create table site ({_SITE}, bits integer)",
    f"create table batch ({', '.join([_BATCH, *(f'{name} blob not null' for name in _COLUMNS)])}, "
    + ", ".join(f"{name} blob" for name in _MORE)
    + ")",
)


@dataclass(frozen=True)
class Batch:
    """n experiments with e events in all. `events` [n] events of each; of each event [e] the number
    of its `site`, the `bit` there, `mode`, `start` and `stop` as in `Faults`. Of each experiment
    [n] the `input` in whose inference it starts, its `outcome`, the `inferences` until the state
    was golden (-1: not in the watch), its `disorder` (recovery.py), `detection_cycles` and whether
    it is `critical` (testbed.py); None where they are not known."""

    events: Column
    site: Column
    bit: Column
    mode: Column
    start: Column
    stop: Column
    input: Column
    outcome: Column
    inferences: Column
    disorder: Column
    detection_cycles: Column | None = None
    critical: Column | None = None


@dataclass(frozen=True)
class SiteRow:
    """A site as it is kept: as `Site`, with the number of its `bits` in place of its targets."""

    name: str
    kind: str
    role: str
    layer: str
    lane: int | None
    bits: int


@dataclass(frozen=True)
class Table:
    """The experiments of a campaign, all arrays [n]; site, bit and cycle are those of the first
    event, the rest is as in `Batch`; None what some batch lacks."""

    site: Column
    bit: Column
    cycle: Column
    input: Column
    outcome: Column
    inferences: Column
    disorder: Column
    detection_cycles: Column | None = None
    critical: Column | None = None


def versions() -> dict[str, str]:
    """Versions of the tools that a campaign depends on."""
    return {
        "tercet": importlib.metadata.version("tercet"),
        "pyosys": importlib.metadata.version("pyosys"),
        "verilator": toolchain.verilator().text,
        "compiler": toolchain.compiler().version,
    }


def campaign_id(header: Json) -> str:
    """The id of the campaign that `header` asks for; it begins with the engine's name."""
    text = json.dumps(header, sort_keys=True).encode()
    return f"{header['arguments']['engine']}-{hashlib.sha256(text).hexdigest()[:12]}"


def folder(directory: Path, name: str) -> Path:
    """DIR/campaigns/<name>; InputError unless there is such a campaign."""
    shelf = directory / "campaigns"
    path = shelf / name
    inside = path.resolve().parent == shelf.resolve()
    if not inside or not (path / "campaign.sqlite").is_file():
        there = sorted(p.parent.name for p in shelf.glob("*/campaign.sqlite"))
        known = f"; there are {', '.join(map(printable, there))}" if there else ""
        raise InputError(f"{directory}: no campaign {printable(name)}{known}")
    return path


class Shelf:
    """The file of one campaign, open for one process; leaving the context closes it.

    Everything raises InputError, in one line, for a file that cannot be read or written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        mode = "ro" if read_only else "rwc"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            address = f"{path.resolve().as_uri()}?mode={mode}"
            self._file = sqlite3.connect(address, timeout=0.2, isolation_level=None, uri=True)
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from None
        try:
            self._set_up(read_only)
        except sqlite3.Error as error:
            self._file.close()
            raise self._error(error) from None

    def _set_up(self, read_only: bool) -> None:
        """A writer is alone with the file; each batch is on the disk when `append` returns."""
        if read_only:
            self._file.execute("select count(*) from sqlite_master")
            return
        for pragma in ("locking_mode = exclusive", "journal_mode = wal", "synchronous = full"):
            self._file.execute(f"pragma {pragma}")
        self._file.execute("begin exclusive")
        self._file.execute("commit")
        there = self._columns()
        for name in _MORE.keys() - set(there) if there else ():
            self._file.execute(f"alter table batch add column {name} blob")

    def create(self, header: Json, sites: Sequence[Site]) -> None:
        """Begin the campaign anew: no experiments, no report."""
        rows = [
            (n, s.name, s.kind, s.role, s.layer, s.lane, len(s.targets))
            for n, s in enumerate(sites)
        ]
        with self._transaction() as file:
            for name in ("campaign", "site", "batch"):
                file.execute(f"drop table if exists {name}")
            for statement in _TABLES:
                file.execute(statement)
            file.execute("insert into campaign values ('header', ?)", (json.dumps(header),))
            file.executemany("insert into site values (?, ?, ?, ?, ?, ?, ?)", rows)

    @property
    def begun(self) -> bool:
        """Has `create` been called?"""
        return bool(self._rows("select name from sqlite_master where name = 'campaign'"))

    @property
    def header(self) -> Json:
        """What was asked."""
        return self._value("header") or {}

    @property
    def report(self) -> Json | None:
        """The report, once the campaign is finished."""
        return self._value("report")

    @property
    def sites(self) -> list[SiteRow]:
        """The sites by their numbers."""
        rows = self._rows("select name, kind, role, layer, lane, bits from site order by number")
        return [SiteRow(*row) for row in rows]

    @property
    def experiments(self) -> int:
        """Number of experiments that are kept."""
        return int(self._rows("select coalesce(sum(experiments), 0) from batch")[0][0])

    @property
    def seconds(self) -> float:
        """Time that the engine took for them."""
        return float(self._rows("select coalesce(sum(seconds), 0) from batch")[0][0])

    def append(self, batch: Batch, seconds: float) -> None:
        """Keep the next experiments, all or none. InputError if they cannot be written."""
        columns = [_packed(getattr(batch, name), kind) for name, kind in _KINDS.items()]
        marks = ", ".join("?" * (3 + len(columns)))
        kept = self.experiments
        with self._transaction() as file:
            row = (kept, len(batch.events), seconds, *columns)
            names = ", ".join(("first", "experiments", "seconds", *_COLUMNS, *_MORE))
            file.execute(f"insert into batch ({names}) values ({marks})", row)

    def finish(self, report: Json) -> None:
        """Keep the report; the campaign is finished, and its file complete in itself."""
        with self._transaction() as file:
            file.execute("insert into campaign values ('report', ?)", (json.dumps(report),))
        try:
            self._file.execute("pragma journal_mode = delete")
        except sqlite3.Error as error:
            raise self._error(error) from None

    def table(self) -> Table:
        """All experiments that are kept."""
        names = self._known()
        total, done = self.experiments, 0
        if not total:
            raise InputError(f"{self.path}: no experiment is kept yet; run the campaign")
        kinds = {"cycle": "<u4"} | {name: _KINDS[name] for name in names}
        columns = {
            field.name: np.empty(total, kinds[field.name])
            for field in fields(Table)
            if field.name in kinds
        }
        for number in self._rows("select first from batch order by first"):
            (row,) = self._rows(f"select {', '.join(names)} from batch where first = ?", *number)
            batch = _unpacked(names, row)
            first = np.cumsum(batch["events"], dtype=np.int64) - batch["events"]
            batch |= {"cycle": np.minimum.reduceat(batch["start"], first)}
            batch |= {key: batch[key][first] for key in ("site", "bit")}
            for key in [key for key in columns if key not in batch]:
                del columns[key]
            for key, column in columns.items():
                column[done : done + len(first)] = batch[key]
            done += len(first)
        return Table(**columns)

    def experiment(self, number: int) -> Batch:
        """One experiment; InputError if it is not there."""
        names = self._known()
        rows = self._rows(
            f"select first, experiments, {', '.join(names)} from batch where first <= ? "
            "order by first desc limit 1",
            number,
        )
        if number < 0 or not rows or number >= rows[0][0] + rows[0][1]:
            there = self.experiments
            raise InputError(f"{self.path.parent.name}: no experiment {number}; it has {there}")
        batch, at = _unpacked(names, rows[0][2:]), number - rows[0][0]
        stop = np.cumsum(batch["events"], dtype=np.int64)
        events = slice(int(stop[at] - batch["events"][at]), int(stop[at]))
        of_event = ("site", "bit", "mode", "start", "stop")
        return Batch(**{n: batch[n][events if n in of_event else slice(at, at + 1)] for n in batch})

    def __enter__(self) -> Shelf:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _value(self, key: str) -> Json | None:
        rows = self._rows("select value from campaign where key = ?", key)
        try:
            return json.loads(rows[0][0]) if rows else None
        except (ValueError, TypeError, RecursionError):
            raise InputError(f"{self.path}: {key}: not JSON; delete the campaign") from None

    def _columns(self) -> list[str]:
        return [row[1] for row in self._rows("pragma table_info(batch)")]

    def _known(self) -> list[str]:
        """The columns of this file that a `Batch` has."""
        there = self._columns()
        return [*_COLUMNS, *(name for name in _MORE if name in there)]

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        try:
            return self._file.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of a `with` block, or nothing."""
        try:
            self._file.execute("begin immediate")
            try:
                yield self._file
                self._file.execute("commit")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("rollback")
                raise
        except sqlite3.Error as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> InputError:
        code = getattr(error, "sqlite_errorcode", None)
        fix = "cannot write the campaign"
        if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            fix = "another process runs this campaign; wait for it"
        elif code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            fix = f"delete {printable(str(self.path.parent))} and run the campaign again"
        elif code is not None and code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            fix = "what was kept stays; free some space and give the same command again"
        return InputError(f"{self.path}: {printable(str(error))}; {fix}")


def _packed(values: Column | None, kind: str) -> bytes | None:
    if values is None:
        return None
    return zlib.compress(np.ascontiguousarray(values, kind).tobytes(), 1)


def _unpacked(names: list[str], blobs: Iterable[bytes | None]) -> dict[str, Column]:
    """The columns that are not null."""
    with contextlib.suppress(zlib.error, ValueError, TypeError):
        found = {
            name: np.frombuffer(zlib.decompress(blob), _KINDS[name])
            for name, blob in zip(names, blobs, strict=True)
            if blob is not None
        }
        if found.keys() >= _COLUMNS.keys():
            return found
    raise InputError("campaign.sqlite: a batch is damaged; delete the campaign")


def load(directory: Path, name: str) -> tuple[Json, Table]:
    """Report and experiments of the finished campaign `name`; InputError if there is none."""
    path = folder(directory, name) / "campaign.sqlite"
    with Shelf(path, read_only=True) as shelf:
        report = shelf.report
        if report is None:
            raise InputError(f"{directory}: campaign {printable(name)} is not finished; resume it")
        return report, shelf.table()


def load_sites(directory: Path, name: str) -> list[SiteRow]:
    """The sites of campaign `name`, by their numbers in `Table.site`."""
    with Shelf(folder(directory, name) / "campaign.sqlite", read_only=True) as shelf:
        return shelf.sites
