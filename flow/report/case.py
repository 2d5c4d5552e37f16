"""The safety case as one JSON object: what docs/report.md lists, from what a directory holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...quant.ir import IntArray
from ...sim import detection, store
from ...sim.store import SiteRow, Table
from . import uncovered
from .compare import against
from .evidence import Campaign, Evidence, read
from .measure import Measured, metrics

__all__ = ["safety_case"]

Json = dict[str, Any]
SCHEMA = 1

_MODELS = {
    "seu": ("single upset of a flip-flop bit", "tercet inject DIR"),
    "mbu": ("upset of neighbouring flip-flop bits", "tercet inject DIR --fault mbu"),
    "stuck": ("flip-flop bit stuck at 0 or 1", "tercet inject DIR --fault stuck0"),
    "memory": ("upset of a memory bit", "tercet inject DIR --fault memory"),
    "netlist seu": (
        "upset of a flip-flop of the mapped netlist",
        "tercet inject DIR --engine netlist",
    ),
    "config": (
        "configuration bit of a look-up table",
        "tercet inject DIR --engine netlist --fault config",
    ),
    "tensor": ("law of faults in the tensors", "tercet inject DIR --engine software"),
}
NEVER = (
    "transients in combinational logic",
    "routing and all configuration but look-up tables",
    "clock and reset",
)
"""What no campaign covers."""


def safety_case(directory: Path, plain: Path | None = None) -> Json:
    """The safety case of the design in `directory`, beside that in `plain`.

    Raises InputError for a directory that is no build, has no campaign of upsets in all
    flip-flops, or whose files are damaged; and for a `plain` of another network.
    """
    evidence = read(directory)
    main = evidence.main
    other = None if plain is None else against(evidence, read(plain))
    sites = store.load_sites(directory, main.name)
    _, table = store.load(directory, main.name)
    measured = Measured.of(main, sites, table)
    classes = uncovered.classes(measured, evidence.manifest)
    why = {(row["layer"], row["role"]): row["reason"] for row in classes}
    registers = [
        row | {"reason": why[row["layer"], row["role"]]}
        for row in uncovered.registers(measured, sites, table)
    ]
    layers, roles = (_labels(measured, n) for n in (0, 1))
    bits, covered = (sum(row[key] for row in classes) for key in ("bits", "covered_bits"))
    return {
        "schema": SCHEMA,
        **_design(evidence),
        "campaign": _campaign(main),
        **measured.group(np.ones(len(measured.classes), bool)),
        "sdc_critical": _whole_rate(main),
        "vulnerable_bit_cycles": main.report["sdc_critical"]["vulnerable_bit_cycles"],
        "covered_bits": {"covered": covered, "bits": bits, "share": covered / bits if bits else 0},
        "metrics": metrics(measured),
        "by_role": _with_latency(_split(measured, roles), sites, table),
        "by_layer": _split(measured, layers),
        "detection_latency": detection.report(table),
        "undetected_sites": registers,
        "uncovered": classes,
        "fault_models": _models(evidence),
        "never_covered": list(NEVER),
        "against": other,
        "missing": _missing(evidence, measured, plain is None),
    }


def _design(evidence: Evidence) -> Json:
    manifest, verify = evidence.manifest, evidence.verify
    synth = evidence.synth.get(evidence.target)
    return {
        "design": manifest.design,
        "network": evidence.network,
        "name": manifest.name,
        "target": evidence.target,
        "plan": manifest.raw.get("plan"),
        "protection": manifest.raw.get("protection"),
        "folding": manifest.raw.get("folding"),
        "tools": manifest.raw.get("tools"),
        "ff_bits": manifest.ff_bits,
        "latency_cycles": manifest.latency_cycles,
        "initiation_interval": manifest.initiation_interval,
        "area": {"measured": evidence.measured, "estimated": evidence.estimated},
        "fmax_mhz": None if synth is None else synth.get("fmax_mhz"),
        "replicas": None if synth is None else _counted(synth["replicas"]),
        "verify": None if verify is None else _verified(verify),
    }


def _counted(replicas: Json) -> Json:
    return {key: replicas.get(key) for key in ("expected", "found", "constant")}


def _verified(verify: Json) -> Json:
    benches = verify["benches"]
    return {
        "images": verify["images"],
        "mismatches": verify["mismatches"],
        "benches": len(benches),
        "failed": [str(bench.get("name")) for bench in benches if not bench["passed"]],
    }


def _campaign(main: Campaign) -> Json:
    report = main.report
    keys = ("engine", "experiments", "inputs", "exhaustive", "fault_model", "seed", "notes")
    audit = report["audit"]
    return {
        "id": main.name,
        **{key: report.get(key) for key in keys},
        "confidence": report["sdc_critical"]["confidence"],
        "stalls": main.stalls,
        "audit": {key: audit.get(key) for key in ("sampled", "disagreements")},
    }


def _whole_rate(main: Campaign) -> Json:
    """The campaign's own rate: strata and early stopping are in its interval."""
    rate, outcomes = main.report["sdc_critical"], main.report["outcomes"]
    found = {"value": rate["avf"], **_interval(main.report)}
    found |= {"low_inputs": rate.get("low_inputs"), "high_inputs": rate.get("high_inputs")}
    return found | {"events": outcomes["sdc_critical"], "trials": main.report["experiments"]}


def _with_latency(groups: Json, sites: list[SiteRow], table: Table) -> Json:
    """With the cycles until its detected upsets were flagged, None if they were not recorded."""
    role = np.array([site.role for site in sites])
    detected = np.isin(table.outcome, detection.GROUPS["detected"])
    for name, group in groups.items():
        group["detection_cycles"] = None
        if table.detection_cycles is not None:
            mine = detected & (role == name)[table.site]
            group["detection_cycles"] = detection.quantiles(table.detection_cycles[mine])
    return groups


def _interval(report: Json) -> Json:
    """None after every fault of one input: that is exact for it, and no sample of inputs."""
    known = not report.get("exhaustive") or report.get("inputs") != 1
    return {key: report["sdc_critical"].get(key) if known else None for key in ("low", "high")}


def _labels(measured: Measured, place: int) -> list[str]:
    return [name[place] for name in measured.classes]


def _split(measured: Measured, labels: list[str]) -> Json:
    """`Measured.group` of each label that was struck; every upset of it critical comes first."""
    array: IntArray = np.array(labels)
    groups = {label: measured.group(array == label) for label in sorted(set(labels))}
    order = sorted(groups, key=lambda n: (-groups[n]["outcomes"]["sdc_critical"], n))
    return {label: groups[label] for label in order if groups[label]["experiments"]}


def _models(evidence: Evidence) -> list[Json]:
    """Every fault model: the campaigns that cover it, or the command that would."""
    rows = []
    for key, (what, command) in _MODELS.items():
        found = [_row(c) for c in evidence.campaigns if _model(c) == key]
        command = command.replace("DIR", str(evidence.directory))
        rows.append({"model": what, "campaigns": found, "command": None if found else command})
    return rows


def _model(campaign: Campaign) -> str:
    if campaign.struck == "netlist" and campaign.kind == "seu":
        return "netlist seu"
    return "stuck" if campaign.kind.startswith("stuck") else campaign.kind


def _row(campaign: Campaign) -> Json:
    report, rate = campaign.report, campaign.report["sdc_critical"]
    keys = ("engine", "experiments", "inputs", "fault_model", "exhaustive")
    return {
        "id": campaign.name,
        **{key: report.get(key) for key in keys},
        "avf": rate.get("avf"),
        **_interval(report),
        "part": bool(campaign.kind == "seu" and campaign.struck == "rtl" and not campaign.whole),
    }


def _missing(evidence: Evidence, measured: Measured, alone: bool) -> list[Json]:
    """What a full case has and this directory has not, with the command that makes it."""
    where, found = str(evidence.directory), []
    if evidence.build is None:
        found.append(("estimated area (report.json)", "tercet build MODEL -o DIR"))
    if evidence.verify is None:
        found.append(("verification (verify.json)", "tercet verify DIR"))
    if evidence.measured is None:
        found.append((f"measured area (synth_{evidence.target}.json)", "tercet synth DIR"))
    if not measured.judged:
        found.append(("detection latency and critical coverage", "tercet inject DIR"))
    if measured.campaign.report["inputs"] < 30:
        found.append(("30 inputs or more", "tercet inject DIR --inputs 32"))
    if not measured.campaign.report["audit"].get("sampled"):
        found.append(("an audit in an independent simulation", "tercet inject DIR --audit 500"))
    if alone:
        found.append(("an unprotected design beside it", "tercet report DIR --against PLAIN_DIR"))
    for name in evidence.unfinished:
        found.append((f"the rest of campaign {name}", "the same command goes on"))
    return [{"part": part, "command": text.replace(" DIR", f" {where}")} for part, text in found]
