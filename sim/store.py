"""Campaigns kept in DIR/campaigns/<id>/: experiments.npz, one row an experiment, and report.json.

The id is made from design, inputs, engine, seed and number of faults, so that the same campaign
finds its folder again. A folder appears whole, by a rename.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..quant.errors import InputError
from ..quant.ir import IntArray
from ..quant.names import printable
from . import toolchain
from .manifest import Words
from .outcomes import Outcome

__all__ = ["Table", "load", "save", "versions"]

Json = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """The experiments, all arrays [n]: `register` index into `names` and `bit` of that register,
    `cycle` counted from the start of the window, `input` index into the file of frames, `outcome`
    a number of `Outcome`."""

    names: tuple[str, ...]
    register: IntArray
    bit: IntArray
    cycle: IntArray
    input: IntArray
    outcome: Words


def versions() -> dict[str, str]:
    """Versions of the tools that a campaign depends on."""
    return {
        "tercet": importlib.metadata.version("tercet"),
        "pyosys": importlib.metadata.version("pyosys"),
        "verilator": toolchain.verilator().text,
        "compiler": toolchain.compiler().version,
    }


def save(directory: Path, report: Json, table: Table) -> Json:
    """Write the campaign; returns the report with its `id`."""
    keys = ("design", "inputs_digest", "engine", "seed", "experiments", "tools")
    text = json.dumps([report[key] for key in keys], sort_keys=True)
    report = report | {"id": f"{report['engine']}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"}
    shelf = directory / "campaigns"
    try:
        shelf.mkdir(exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".new-", dir=shelf))
        try:
            _write(work, report, table)
            _replace(work, shelf / report["id"])
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    except OSError as error:
        raise InputError(f"{shelf}: {error.strerror}; cannot write the campaign") from None
    return report


def _write(folder: Path, report: Json, table: Table) -> None:
    np.savez_compressed(
        folder / "experiments.npz",
        register=table.register.astype(np.uint32),
        bit=table.bit.astype(np.uint32),
        cycle=table.cycle.astype(np.uint32),
        input=table.input.astype(np.uint32),
        outcome=table.outcome,
        names=np.array(table.names),
        outcomes=np.array([outcome.label for outcome in Outcome]),
    )
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    folder.chmod(0o755)


def _replace(work: Path, folder: Path) -> None:
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=".old-", dir=folder.parent))
        folder.rename(old / folder.name)
        work.rename(folder)
        shutil.rmtree(old)
    else:
        work.rename(folder)


def load(directory: Path, name: str) -> tuple[Json, Table]:
    """The report and the experiments of campaign `name`; InputError if it is not there."""
    folder = directory / "campaigns" / name
    try:
        if not folder.resolve().is_relative_to((directory / "campaigns").resolve()):
            raise FileNotFoundError
        report: Json = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        with np.load(folder / "experiments.npz", allow_pickle=False) as data:
            columns = {k: data[k].astype(np.int64) for k in ("register", "bit", "cycle", "input")}
            names = tuple(str(name) for name in data["names"])
            return report, Table(names, **columns, outcome=data["outcome"])
    except (OSError, ValueError, KeyError):
        raise InputError(f"{directory}: no campaign {printable(name)}") from None
