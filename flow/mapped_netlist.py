"""The mapped netlist of a build directory, as a build directory of its own that engines can read.

Synthesis runs as for the target, except that state is not packed into blocks without a model of
their cells; what was forbidden is in the report. The number of flip-flops is counted twice: among
the mapped cells, and in the Verilog that the engines read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..quant.errors import ClaimError
from ..sim import cache, lut_init, mapped_cells, mapped_sites, mapped_verilog, sites
from ..sim import manifest as manifests
from ..sim.campaign import Options, run_on
from ..sim.mapped import MappedTestbed
from ..sim.steady import Stalls
from . import targets
from .netlist import Netlist
from .synth import check_design, fresh, write_json
from .targets import Target
from .yosys import run

__all__ = ["map_design", "run_netlist_campaign"]

_VERILOG, _LUTS, _MANIFEST, _REPORT = "mapped.v", "luts.json", "manifest.json", "netlist.json"
_MODULES = (lut_init, mapped_cells, mapped_sites, mapped_verilog)

Json = dict[str, Any]


def map_design(
    directory: Path,
    *,
    target: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Path, Json]:
    """Synthesise a build directory for a target (default: its own) and write DIR/netlist_<target>.

    Returns that folder and its report: {target, forbidden, luts, ffs, dsps, carries, lut_init_bits,
    registers: {...}}. Raises InputError for a bad directory, an unknown target, or a cell without a
    model, which it names; ClaimError if a flip-flop was lost on the way.
    """
    found = manifests.load(directory)
    check_design(found)
    device = targets.find(target or str(found.raw.get("target", targets.DEFAULT)))
    if progress is not None:
        progress(f"mapping for {device.name}")
    made = cache.entry("mapped", _key(found, device), lambda folder: _make(found, device, folder))
    folder = fresh(directory / f"netlist_{device.name}")
    for name in (_VERILOG, _LUTS):
        shutil.copyfile(made / name, folder / name)
    for name in ("graph.json", "vectors.npz"):
        if (directory / name).is_file():
            shutil.copyfile(directory / name, folder / name)
    report = {"target": device.name} | json.loads((made / _REPORT).read_text())
    write_json(folder / _MANIFEST, _manifest(found, folder, report))
    return folder, report


def run_netlist_campaign(
    directory: Path,
    *,
    target: str | None = None,
    inputs: int = 32,
    first_input: int = 0,
    inputs_file: Path | None = None,
    stalls: Stalls | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: Callable[..., None] | None = None,
    **options: Any,
) -> Json:
    """`campaign.run_campaign` on what synthesis for `target` makes of a build directory.

    The campaign is kept in the build directory; its report holds that of `map_design` under
    `netlist`. Raises what those two raise.
    """
    chosen = Options(**{"engine": "netlist"} | options)
    MappedTestbed.check_engine(chosen.engine)
    folder, _ = map_design(directory, target=target, progress=progress)
    if progress is not None:
        progress("compiling the fault engine")
    testbed = MappedTestbed.open(
        folder, inputs=inputs, first_input=first_input, inputs_file=inputs_file, stalls=stalls
    )
    result = run_on(testbed, directory, chosen, workers=workers, resume=resume, progress=progress)
    return result | {"notes": [*result["notes"], *_notes(result["netlist"], chosen.model.kind)]}


def _notes(report: Json, kind: str) -> list[str]:
    """What the netlist is, and what a campaign of this kind of fault leaves out."""
    registers, without = report["registers"], ", ".join(report["forbidden"])
    held = f"{registers['kept']} of the {registers['rtl_ff_bits']} flip-flop bits of the Verilog"
    held += f" and {registers['memory']} bits of its memories"
    notes = [
        f"netlist for {report['target']} without {without}: {report['ffs']} flip-flops, {held}"
    ]
    if registers["merged"]:
        notes.append(f"synthesis merged {registers['merged']} flip-flop bits with others")
    if kind == "config":
        notes.append(
            f"{report['lut_init_bits']} LUT-INIT bits, {report['lut_init_bits_reachable']} of them "
            "at inputs that are possible; routing and all other configuration is not covered"
        )
    return notes


def _key(found: manifests.Manifest, device: Target) -> str:
    code = [Path(module.__file__ or "").read_bytes() for module in _MODULES]
    code.append(Path(__file__).read_bytes())
    names = [found.top, importlib.metadata.version("pyosys"), *device.family.open_commands]
    return cache.key(found.verilog.read_bytes(), *names, *code)


def _make(found: manifests.Manifest, device: Target, folder: Path) -> None:
    """Fill an entry of the cache: the netlist as Verilog, its tables, its report."""
    shutil.copyfile(found.verilog, folder / "design.v")
    commands = [
        "read_verilog -sv design.v",
        *(command.format(top=found.top) for command in device.family.open_commands),
        "setattr -mod -unset keep_hierarchy",
        "flatten",
        "autoname",
        "select A:top",
        "write_json -selected -noscopeinfo mapped.json",
    ]
    run(commands, workdir=folder, name="map")
    names = mapped_sites.read_names(found.verilog, found.top)
    mapped = mapped_verilog.load(folder / "mapped.json", found.top, names)
    (folder / _VERILOG).write_text(mapped.verilog)
    (folder / _LUTS).write_text(json.dumps([vars(lut) for lut in mapped.luts]))
    counts = device.family.count(Netlist.load(folder / "mapped.json", found.top).count())
    _check_count(counts["ffs"], mapped, folder, found.top)
    report = {
        "forbidden": list(device.family.forbidden),
        **counts,
        "luts_with_init": len(mapped.luts),
        "lut_init_bits": lut_init.Luts(mapped.luts).bits,
        "registers": dict(mapped.placement.report),
    }
    write_json(folder / _REPORT, report)


def _check_count(ffs: float, mapped: mapped_verilog.Mapped, folder: Path, top: str) -> None:
    listed = sum(register.width for register in sites.enumerate(folder / _VERILOG, top))
    if not ffs == mapped.ff_bits == listed:
        raise ClaimError(
            f"netlist: {ffs:g} mapped flip-flops, {mapped.ff_bits} named, {listed} in the Verilog"
        )


def _manifest(found: manifests.Manifest, folder: Path, report: Json) -> Json:
    """The build's manifest with the mapped Verilog in place of its own."""
    text = (folder / _VERILOG).read_bytes()
    return dict(found.raw) | {
        "design": hashlib.sha256(text).hexdigest(),
        "verilog": _VERILOG,
        "target": report["target"],
        "taps": [],
        "voters": [],
        "sites": {"ff_bits": report["registers"]["ff_bits"], "registers": []},
        "mapped": report | {"source": found.design},
    }
