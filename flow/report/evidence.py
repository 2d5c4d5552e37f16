"""What a build directory holds as evidence: build, verification, synthesis, campaigns.

A directory is input like any other: every file is read as data, and a broken one is an InputError
of one line that names it. What is not there is no error but `missing`, with the command that makes
it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...quant import serialize
from ...quant.errors import InputError
from ...quant.names import printable
from ...sim import manifest as manifests
from ...sim import statistics
from ...sim.manifest import Manifest
from ...sim.outcomes import Outcome
from ...sim.store import Shelf
from ..synth import check_design

__all__ = ["RESOURCES", "Campaign", "Evidence", "read", "whole_network"]

Json = dict[str, Any]
RESOURCES = ("luts", "ffs", "dsps", "brams")
MAX_BYTES = 256 << 20

_NUMBERS = ("experiments", "inputs", "initiation_interval", "sites", "seed")
_TABLES = ("arguments", "testbed", "outcomes", "sdc_critical", "per_input", "audit")


@dataclass(frozen=True)
class Campaign:
    """A finished campaign: its id, its report as `tercet inject` prints it, the `kind` of its
    faults (`sampling.KINDS`, or "tensor"), and what they struck: "rtl", "netlist" or "graph"."""

    name: str
    report: Json
    kind: str
    struck: str

    @property
    def whole(self) -> bool:
        """Single upsets of all flip-flops of the Verilog?"""
        return self.struck == "rtl" and self.report["arguments"]["model"] == {"kind": "seu"}

    @property
    def stalls(self) -> Any:
        """How the streams stalled; None back to back."""
        return self.report["testbed"].get("stalls")


@dataclass(frozen=True)
class Evidence:
    """A build directory. `network` is the digest of its graph without its bounds, so that a plan
    changes nothing in it; `build` and `verify` their JSON, `synth` that of each target;
    `unfinished` the ids of campaigns that were begun only."""

    directory: Path
    manifest: Manifest
    network: str
    build: Json | None
    verify: Json | None
    synth: Mapping[str, Json]
    campaigns: tuple[Campaign, ...]
    unfinished: tuple[str, ...]

    @property
    def target(self) -> str:
        """The device that it was built for."""
        return str(self.manifest.raw.get("target", ""))

    @property
    def measured(self) -> Json | None:
        """Resources by synthesis for its own target."""
        found = self.synth.get(self.target)
        return None if found is None else {key: found[key] for key in RESOURCES}

    @property
    def estimated(self) -> Json | None:
        """Resources by the estimate for its own target."""
        found = (self.build or {}).get("estimate")
        return None if found is None else {key: found[key] for key in RESOURCES}

    @property
    def main(self) -> Campaign:
        """The campaign that speaks for the design: single upsets of all flip-flops; with enough
        inputs, back to back, with detection recorded, large, in this order. InputError if there is
        none."""
        whole = [campaign for campaign in self.campaigns if campaign.whole]
        if not whole:
            raise InputError(
                f"{self.directory}: no finished campaign of upsets in all flip-flops of this "
                f"design; run `tercet inject {self.directory}`"
            )
        return max(whole, key=_weight)


def _weight(campaign: Campaign) -> tuple[bool, bool, bool, int, str]:
    report = campaign.report
    enough = report["inputs"] >= statistics.ENOUGH_INPUTS
    recorded = report.get("detection_latency") is not None
    return enough, campaign.stalls is None, recorded, report["experiments"], campaign.name


def read(directory: Path) -> Evidence:
    """The evidence in DIR. Raises InputError for no build directory, one whose Verilog is not its
    manifest's, one without campaigns, or a file that cannot be read."""
    manifest = manifests.load(directory)
    check_design(manifest)
    path = manifests.inside(directory, "graph.json", directory / "manifest.json")
    campaigns, unfinished = _campaigns(directory, manifest)
    if not campaigns:
        begun = f" ({len(unfinished)} unfinished)" if unfinished else ""
        raise InputError(
            f"{directory}: no finished campaign{begun}; run `tercet inject {directory}`"
        )
    return Evidence(
        directory,
        manifest,
        whole_network(path),
        _optional(directory / "report.json", _check_build),
        _optional(directory / "verify.json", _check_verify),
        _synth(directory),
        campaigns,
        unfinished,
    )


def whole_network(path: Path) -> str:
    """Digest of the graph in a file, without the bounds that a plan puts into its layers."""
    document = json.loads(serialize.to_json(serialize.load(path)))
    for node in document["nodes"]:
        for table in (node, node.get("requantize") or {}):
            table.pop("bound", None)
            table.pop("bound_kind", None)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


# ------------------------------------------------------------------------------------------ files


def _load(path: Path) -> Json:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB; delete it")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'not readable'}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not valid JSON; delete it and make it again") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: must be an object; delete it and make it again")
    return value


def _optional(path: Path, check: Callable[[Path, Json], None]) -> Json | None:
    if not path.is_file():
        return None
    value = _load(path)
    check(path, value)
    return value


def _wrong(path: Path, key: str) -> InputError:
    return InputError(f"{path}: {key} is missing or wrong; delete it and make it again")


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _check_build(path: Path, value: Json) -> None:
    cost = value.get("estimate")
    if not isinstance(cost, dict) or not all(_number(cost.get(key)) for key in RESOURCES):
        raise _wrong(path, "estimate")


def _check_verify(path: Path, value: Json) -> None:
    benches = value.get("benches")
    rows = benches if isinstance(benches, list) else [None]
    if not all(isinstance(row, dict) and type(row.get("passed")) is bool for row in rows):
        raise _wrong(path, "benches")
    for key in ("images", "mismatches"):
        if type(value.get(key)) is not int:
            raise _wrong(path, key)


def _synth(directory: Path) -> dict[str, Json]:
    found = {}
    for path in sorted(directory.glob("synth_*.json")):
        value = _load(path)
        if not all(_number(value.get(key)) for key in RESOURCES):
            raise _wrong(path, ", ".join(RESOURCES))
        replicas = value.get("replicas")
        if not isinstance(replicas, dict) or not {"found", "expected"} <= replicas.keys():
            raise _wrong(path, "replicas")
        found[path.stem.removeprefix("synth_")] = value
    return found


# -------------------------------------------------------------------------------------- campaigns


def _campaigns(directory: Path, manifest: Manifest) -> tuple[tuple[Campaign, ...], tuple[str, ...]]:
    """The finished campaigns of this design, and the ids of the others that are its."""
    found, unfinished = [], []
    for folder in sorted((directory / "campaigns").glob("*")):
        report = _report(folder)
        if report is None:
            unfinished.append(folder.name)
        elif report.get("engine") == "software":
            found.append(Campaign(folder.name, report, "tensor", "graph"))
        elif _is_of(report, manifest):
            found.append(_checked(folder / "campaign.sqlite", report))
    return tuple(found), tuple(unfinished)


def _report(folder: Path) -> Json | None:
    """The report of a campaign, None if it is not finished."""
    if (folder / "campaign.sqlite").is_file():
        with Shelf(folder / "campaign.sqlite", read_only=True) as shelf:
            return shelf.report if shelf.begun else None
    path = folder / "report.json"
    report = _load(path) if path.is_file() else None
    if report is not None and not _rated(report):
        raise _wrong(path, "sdc_critical")
    return report


def _rated(report: Json) -> bool:
    """Has it a rate with limits?"""
    rate = report.get("sdc_critical")
    keys = ("avf", "low", "high", "confidence")
    return isinstance(rate, dict) and all(_number(rate.get(key)) for key in keys)


def _is_of(report: Json, manifest: Manifest) -> bool:
    netlist = report.get("netlist")
    design = netlist.get("source") if isinstance(netlist, dict) else report.get("design")
    return bool(design == manifest.design)


def _checked(path: Path, report: Json) -> Campaign:
    """A campaign whose report has what is used of it."""
    for key in _NUMBERS:
        if not _number(report.get(key)):
            raise _wrong(path, f"report.{key}")
    for key in _TABLES:
        if not isinstance(report.get(key), dict):
            raise _wrong(path, f"report.{key}")
    if not all(type(report["outcomes"].get(outcome.label)) is int for outcome in Outcome):
        raise _wrong(path, "report.outcomes")
    if not isinstance(report.get("notes"), list):
        raise _wrong(path, "report.notes")
    inputs = report["per_input"]
    sizes = {len(inputs[key]) for key in ("experiments", "sdc_critical") if _counts(inputs, key)}
    if sizes != {report["inputs"]} or sum(inputs["experiments"]) != report["experiments"]:
        raise _wrong(path, "report.per_input")
    model = report["arguments"].get("model")
    if not isinstance(model, dict) or not isinstance(model.get("kind"), str):
        raise _wrong(path, "report.arguments.model")
    exposure = report["sdc_critical"].get("vulnerable_bit_cycles")
    if not _rated(report) or (model == {"kind": "seu"} and not _number(exposure)):
        raise _wrong(path, "report.sdc_critical")
    if not isinstance(report.get("inputs_digest"), str):
        raise _wrong(path, "report.inputs_digest")
    struck = "netlist" if "netlist" in report else "rtl"
    return Campaign(printable(path.parent.name), report, model["kind"], struck)


def _counts(inputs: Json, key: str) -> bool:
    values = inputs.get(key)
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)
