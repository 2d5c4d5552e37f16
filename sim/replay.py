"""One experiment of a campaign again, in cocotb: what it struck, what became of it, its waves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..quant.errors import InputError
from ..quant.names import printable
from . import store
from .faults import PERMANENT, Faults, Mode
from .outcomes import Outcome
from .store import Batch, Shelf
from .targets import Site, Targets
from .testbed import StreamTestbed, Testbed

__all__ = ["replay"]

Json = dict[str, Any]


def replay(
    directory: Path,
    identity: str,
    *,
    waves: bool = False,
    progress: Callable[..., None] | None = None,
) -> Json:
    """Repeat experiment `identity`, CAMPAIGN:NUMBER, in cocotb.

    Returns {id, events, outcome, cocotb, agrees, inferences, waves}: the outcome in the campaign
    and now (masked and latent agree), and the files that were written. With `waves`
    DIR/campaigns/CAMPAIGN/ gets replay-NUMBER.vcd and golden-NUMBER.vcd, the same cycles without
    the fault. Raises InputError for an unknown id or a design that is not the campaign's.
    """
    tell = progress or (lambda *_: None)
    match = re.fullmatch(r"([^:]+):([0-9]{1,12})", identity)
    if match is None:
        raise InputError(f"--replay {printable(identity)}: must be CAMPAIGN:NUMBER")
    folder, number = store.folder(directory, match[1]), int(match[2])
    with Shelf(folder / "campaign.sqlite", read_only=True) as shelf:
        header, row = shelf.header, shelf.experiment(number)
    tell("compiling the fault engine")
    testbed = _reopen(directory, header, match[1])
    targets = Targets(testbed)
    faults = _faults(row, targets)
    tell("replaying in cocotb")
    before = Outcome(int(row.outcome[0]))
    after = Outcome(int(testbed.run("cocotb", faults, workers=1).outcome[0]))
    written: list[str] = []
    if waves:
        written = _waves(testbed, faults, folder, number, tell)
    silent = {Outcome.MASKED, Outcome.LATENT}
    return {
        "id": identity,
        "events": [_text(faults, i, targets) for i in range(len(faults.target))],
        "input": int(row.input[0]),
        "outcome": before.label,
        "inferences": int(row.inferences[0]),
        "cocotb": after.label,
        "agrees": before == after or {before, after} <= silent,
        "waves": written,
    }


def _reopen(directory: Path, header: Json, name: str) -> Testbed:
    """The testbed of a campaign; InputError if the design has changed since."""
    recipe = header["testbed"]
    testbed: Testbed
    if recipe["kind"] == "foreign":
        from .foreign.testbed import ForeignTestbed

        testbed = ForeignTestbed.reopen(recipe)
    elif recipe["kind"] == "netlist":
        from .mapped import MappedTestbed

        testbed = MappedTestbed.reopen(directory, recipe)
    else:
        testbed = StreamTestbed.reopen(directory, recipe)
    for key in ("design", "inputs_digest"):
        there, wanted = testbed.origin[key], header[key]
        if there != wanted:
            raise InputError(
                f"{printable(name)} is of {key} {printable(wanted[:12])}, {directory} has "
                f"{there[:12]}; replay it where it was run"
            )
    return testbed


def _faults(row: Batch, targets: Targets) -> Faults:
    sites = [targets.sites[site] for site in row.site]
    struck = [int(s.targets[bit]) for s, bit in zip(sites, row.bit, strict=True)]
    columns = (np.asarray(c, np.int64) for c in (struck, row.mode, row.start, row.stop))
    return Faults(np.array([0, len(sites)]), *columns)


def _text(faults: Faults, event: int, targets: Targets) -> str:
    """An event in words."""
    target = int(faults.target[event])
    site: Site = targets.sites[targets.owner[target]]
    bit, start = int(targets.position[target]), int(faults.start[event])
    where = f"{printable(site.name)} bit {bit} ({site.layer} {site.role})"
    mode = Mode(int(faults.mode[event]))
    if mode is Mode.FLIP:
        return f"{where} inverted in cycle {start}"
    stop = int(faults.stop[event])
    until = "for ever" if stop == PERMANENT else f"to cycle {stop - 1}"
    return f"{where} stuck at {int(mode is Mode.STUCK_AT_1)} from cycle {start} {until}"


def _waves(
    testbed: Testbed, faults: Faults, folder: Path, number: int, tell: Callable[..., None]
) -> list[str]:
    from .engines import cocotb

    if (
        not isinstance(testbed, StreamTestbed)
        or (faults.target >= testbed.space.first_config).any()
    ):
        raise InputError(
            "--waves: only upsets of registers and memories of a build directory have waves"
        )
    tell("writing waves")
    names = (f"replay-{number}.vcd", f"golden-{number}.vcd")
    cocotb.trace(testbed.prepared, faults, folder, names)
    return [str(folder / name) for name in names]
