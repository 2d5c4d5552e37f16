"""`tercet report`: the safety case as safety_case.json and as one page of HTML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...quant.errors import InputError
from ...quant.names import printable
from ..synth import write_json
from ..terminal import cell, console, table
from .case import safety_case
from .cells import ratio, span
from .page import page

__all__ = ["report", "show"]

Json = dict[str, Any]
NAME = "safety_case"


def report(directory: Path, *, plain: Path | None = None, output: Path | None = None) -> Json:
    """Write DIR/safety_case.json and the page (default: DIR/safety_case.html); the case, with
    `html` and `json`, the paths of both.

    `plain` is the build directory of the same network without protection. Both files appear whole
    or not at all. Raises InputError as `case.safety_case`, and for an `output` that cannot be
    written.
    """
    directory = Path(directory)
    target = directory / f"{NAME}.html" if output is None else Path(output)
    if target.is_dir() or (output is not None and not target.absolute().parent.is_dir()):
        where = "is a folder" if target.is_dir() else "its folder does not exist"
        raise InputError(f"-o {printable(str(target))}: {where}; give a file, such as case.html")
    case = safety_case(directory, plain)
    case |= {"html": str(target), "json": str(directory / f"{NAME}.json")}
    _write(target, page(case))
    write_json(directory / f"{NAME}.json", case)
    return case


def _write(path: Path, content: str) -> None:
    """A reader sees the old file or the new one, never a part."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(content)
        part.replace(path)
    except OSError as error:
        where = printable(str(path))
        raise InputError(f"{where}: {error.strerror or error}; choose another with -o") from None
    finally:
        part.unlink(missing_ok=True)


def show(case: Json) -> None:
    """The key figures, what is missing, and where the page is."""
    out, found = console(), case["metrics"]
    rows = table(f"safety case of {printable(str(case['name']))}", "", "share", "upsets", "of")
    for key, rate in found.items():
        counts = ("-", "-") if rate is None else (cell(rate["events"]), cell(rate["trials"]))
        rows.add_row(key.replace("_", " "), span(rate), *counts)
    out.print(rows)
    classes = [c for c in case["uncovered"] if c["sdc_critical"]]
    for row in classes[:5]:
        where = printable(f"{row['layer']}, {row['role']}")
        reason = "".join(map(printable, row["reason"]))
        out.print(f"{row['share']:6.1%} of critical: {where}: {reason}")
    if case["against"] is not None:
        value, low, high = ratio(case["against"]["ratio"])
        out.print(f"vulnerable bit-cycles beside the other's: {value} ({low} to {high})")
    for row in case["missing"]:
        out.print(f"missing: {row['part']}; {row['command']}")
    out.print(f"page: {case['html']}; all numbers: {case['json']}")
