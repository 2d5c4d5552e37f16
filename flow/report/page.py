"""The safety case as one page of HTML: no network, no script, printable on A4."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from ...sim.detection import GROUPS
from ...sim.outcomes import Outcome
from . import charts
from .cells import figure, limits, number, percent, ratio, short, span, table
from .charts import text

__all__ = ["page"]

Json = dict[str, Any]

ROWS, FEW = 9, 6
"""Rows of a table; the rest is counted below it and stands in the JSON."""
_DEFINITIONS = (
    "Critical: another top-1 class and no flag with or before the wrong beat. Dangerous: due, "
    "recovered, corrected, hang, critical, tolerable. Diagnostic coverage: (due + recovered + "
    "corrected) / dangerous. Coverage of critical results: flagged / all results of another "
    "class, hangs counted as not flagged. SPFM-like: 1 - (hang + critical) / upsets. LFM-like: "
    "1 - latent / upsets that are not hang or critical. They are shares of upsets, uniform over "
    "bits and cycles, in the words of ISO 26262-5, not its metrics."
)
_KINDS = tuple(o.label for o in sorted(Outcome, reverse=True))
_LEAKS = ("sdc_critical", "hang", "sdc_tolerable")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(case: Json) -> str:
    """The page of a safety case (`case.safety_case`)."""
    name = f"{case['name']}, {case['target']}"
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    parts = [
        _head(case),
        _key(case),
        _against(case),
        _outcomes(case),
        _classes(case),
        _undetected(case),
        _models(case),
        _foot(case),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Safety case: {text(name)}</title><style>{style}</style></head>\n<body>"
        + "\n".join(part for part in parts if part)
        + "</body></html>\n"
    )


def _head(case: Json) -> str:
    area = case["area"]
    source = "measured" if area["measured"] else "estimated"
    cost = area[source]
    resources = "no area known"
    if cost:
        keys = ("luts", "ffs", "dsps", "brams")
        resources = ", ".join(f"{number(cost[key])} {key[:-1].upper()}" for key in keys)
        resources += f" ({source})"
    clock = f", {number(case['fmax_mhz'])} MHz" if case["fmax_mhz"] else ""
    verify, replicas = case["verify"], case["replicas"]
    checked = "not verified here"
    if verify:
        passed = verify["benches"] - len(verify["failed"])
        checked = (
            f"{passed} of {verify['benches']} benches passed on {number(verify['images'])} images, "
            f"{number(verify['mismatches'])} words differ"
        )
    if replicas and replicas["expected"]:
        checked += f"; {replicas['found']} of {replicas['expected']} voter bits traced"
    return (
        f"<h1>Safety case: {text(case['name'])} on {text(case['target'])}</h1>"
        f"<p>Design <code>{text(case['design'][:16])}</code>; "
        f"plan: {text(_plan(case['plan']))}.<br>"
        f"Latency {number(case['latency_cycles'])} cycles, an inference every "
        f"{number(case['initiation_interval'])}; {text(resources + clock)}; "
        f"{number(case['ff_bits'])} flip-flop bits. Verification: {text(checked)}.</p>"
    )


def _plan(plan: Any) -> str:
    """The plan in a line: default, then layers with an entry of their own."""
    if not isinstance(plan, dict) or not (plan.get("default") or plan.get("layer")):
        return "nothing is protected"
    layers = plan.get("layer")
    entries = [
        ("default", plan.get("default")),
        *(layers.items() if isinstance(layers, dict) else ()),
    ]
    shown = [f"{name}: {_value(entry)}" for name, entry in entries if entry]
    more = f"; {len(shown) - 5} more" if len(shown) > 5 else ""
    return "; ".join(shown[:5]) + more


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    return f"{len(value)} chosen" if isinstance(value, list) and len(value) > 6 else str(value)


def _key(case: Json) -> str:
    """The numbers that a reader looks for first."""
    found, rate = case["metrics"], case["sdc_critical"]
    exposure = case["vulnerable_bit_cycles"]
    boxes = [
        figure(percent(rate["value"]), "critical SDC, of all upsets (AVF)", _interval(rate)),
        figure(
            number(round(exposure)), "vulnerable bit-cycles", "AVF x bits x cycles of an inference"
        ),
        _metric(found, "diagnostic_coverage", "diagnostic coverage", "of wrong or missing results"),
        _metric(found, "critical_coverage", "coverage of critical results", "run inject again"),
        _metric(found, "single_point_like", "single-point metric (SPFM-like)", ""),
        _metric(found, "latent_like", "latent-fault metric (LFM-like)", ""),
        _metric(found, "availability_loss", "results lost or repeated", "due + recovered"),
        _metric(found, "false_alarm", "false alarms", ""),
    ]
    return f'<div class="key">{"".join(boxes)}</div>'


def _metric(found: Json, key: str, name: str, otherwise: str) -> str:
    rate = found[key]
    return figure(short(rate), name, otherwise if rate is None else _interval(rate))


def _interval(rate: Json) -> str:
    return f"{limits(rate)}; {number(rate['events'])} of {number(rate['trials'])}"


def _against(case: Json) -> str:
    other = case["against"]
    if other is None:
        return ""
    cost, (value, low, high) = other["area"], ratio(other["ratio"])
    more = "no area of both by the same means"
    if cost:
        names = {"area": "area", "luts": "LUT", "ffs": "FF", "dsps": "DSP", "brams": "BRAM"}
        more = f"{cost['source']}: " + ", ".join(
            f"{names[key]} {100 * cost['overhead'][key]:+.1f} %"
            for key in names
            if cost["overhead"][key] is not None
        )
    cycles = [
        f"{what} {other[key]['this']:,} instead of {other[key]['plain']:,} cycles"
        for key, what in (("latency_cycles", "latency"), ("initiation_interval", "interval"))
    ]
    notes = "".join(f" Note: {note}." for note in other["notes"])
    paired = "same inputs" if other["ratio"]["paired"] else "other inputs"
    return (
        f"<h2>Beside the unprotected design {text(other['directory'])}</h2>"
        f"<p>Vulnerable bit-cycles: ratio <b>{text(value)}</b> ({low} to "
        f"{high}, {paired}). {text(more)}; "
        f"{text(', '.join(cycles))}.{text(notes)}</p>"
    )


def _outcomes(case: Json) -> str:
    groups = dict(list(case["by_role"].items())[:ROWS])
    rows = {"all": case["outcomes"], **{name: g["outcomes"] for name, g in groups.items()}}
    left = "<h2>What upsets do, by role</h2>" + charts.bars(rows, _KINDS, "outcomes by role")
    return f'<div class="pair"><div>{left}</div><div>{_latency(case)}</div></div>'


def _latency(case: Json) -> str:
    found, title = case["detection_latency"], "<h2>Detection latency</h2>"
    if found is None:
        return f"{title}<p>Not recorded by this campaign; run it again.</p>"
    if not found["bins"]:
        return f"{title}<p>No upset was flagged.</p>"
    interval = case["initiation_interval"]
    words = "no result was flagged in time"
    if found["largest"] is not None:
        words = (
            f"median {number(found['median'])}, 99 % within {number(found['p99'])}, largest "
            f"{number(found['largest'])} cycles ({found['largest'] / interval:.1f} intervals)"
        )
    chart = charts.histogram(found["bins"], tuple(GROUPS), "detection latency in cycles")
    return f'{title}{chart}<p class="small">Detected results: {text(words)}.</p>'


def _classes(case: Json) -> str:
    head = (
        *("", "bits", "upsets", "hang", "critical", "tolerable", "due", "false al.", "latent"),
        *("critical AVF", "vulnerable b.-c.", "diagnostic coverage"),
    )
    parts = []
    for key in ("role", "layer"):
        groups = case[f"by_{key}"]
        rows = [_group(name, group) for name, group in list(groups.items())[:ROWS]]
        rest = len(groups) - len(rows)
        more = _rest(rest, f"{key}s")
        parts.append(f"<h2>By {key}</h2>{table((key, *head[1:]), rows)}{more}")
    return "".join(parts)


def _group(name: str, group: Json) -> tuple[str, ...]:
    kinds = ("hang", "sdc_critical", "sdc_tolerable", "due", "false_alarm", "latent")
    counts = (number(group["outcomes"][kind]) for kind in kinds)
    exposure = group["vulnerable_bit_cycles"]
    return (
        name,
        number(group["bits"]),
        number(group["experiments"]),
        *counts,
        span(group["sdc_critical"]),
        number(None if exposure is None else round(exposure)),
        span(group["diagnostic_coverage"]),
    )


def _undetected(case: Json) -> str:
    """Registers whose upsets get through, and why, class by class."""
    share = case["covered_bits"]
    words = f"{percent(share['share'], 1)} of the flip-flop bits are covered by a key of the plan."
    if not case["undetected_sites"]:
        return f"<h2>Undetected upsets</h2><p>None was seen. {words}</p>"
    sites, kinds = case["undetected_sites"], _kinds(case["uncovered"])
    counts = ("critical", "hang", "tolerable", "of all critical")
    rows = [
        (s["name"], f"{s['layer']}, {s['role']}", number(s["bits"]), *_counts(s))
        for s in sites[:FEW]
    ]
    why = [(k["role"], *_counts(k), k["kind"], _some(k["layers"])) for k in kinds[:ROWS]]
    head = ("role", *counts, "what is left, and why", "layers")
    first = table(("register", "layer, role", "bits", *counts), rows, (1,))
    return (
        f"<h2>Undetected upsets: {number(len(sites))} registers</h2><p>{text(words)}</p>"
        f"{table(head, why, (5, 6))}{_rest(len(kinds) - ROWS, 'reasons')}{first}"
        + _rest(len(sites) - FEW, "registers, each with an example to replay,")
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def _kinds(rows: Sequence[Json]) -> list[Json]:
    """Classes that leak, those of one role and reason together."""
    found: dict[tuple[str, str], Json] = {}
    for row in rows:
        if not _leaks(row):
            continue
        new: Json = {"role": row["role"], "kind": row["kind"], "layers": [], "share": 0.0}
        entry = found.setdefault((row["role"], row["kind"]), new)
        entry["layers"].append(row["layer"])
        for key in ("share", *_LEAKS):
            entry[key] = entry.get(key, 0) + row[key]
    return sorted(found.values(), key=lambda entry: [-entry[key] for key in _LEAKS])


def _leaks(row: Json) -> bool:
    return any(row[kind] for kind in _LEAKS)


def _counts(row: Json) -> tuple[str, ...]:
    return (*(number(row[kind]) for kind in _LEAKS), percent(row["share"], 1))


def _rest(count: int, what: str) -> str:
    return f'<p class="small">{count} more {what} in the JSON.</p>' if count > 0 else ""


def _models(case: Json) -> str:
    rows, left = [], []
    for entry in case["fault_models"]:
        if not entry["campaigns"]:
            left.append(f"{entry['model']} (<code>{text(entry['command'])}</code>)")
        for found in entry["campaigns"]:
            part = ", part of the sites" if found["part"] else ""
            avf = {"value": found["avf"], "low": found["low"], "high": found["high"]}
            counts = number(found["experiments"]), number(found["inputs"])
            rows.append((entry["model"] + part, *counts, span(avf), found["id"]))
    head = ("fault model", "experiments", "inputs", "critical", "campaign")
    never = ", ".join(case["never_covered"])
    return (
        f"<h2>Fault models covered</h2>{table(head, rows[:ROWS], (4,))}"
        f'{_rest(len(rows) - ROWS, "campaigns")}<p class="small">'
        + (f"Not covered: {'; '.join(left)}. " if left else "")
        + f"No campaign covers {text(never)}: so no failure rate in time (FIT) of a device is "
        "given.</p>"
    )


def _foot(case: Json) -> str:
    main, audit = case["campaign"], case["campaign"]["audit"]
    every = "every" if main["exhaustive"] else "a sample of every"
    notes = "".join(f" {note}." for note in main["notes"] or ())
    missing = "; ".join(f"{row['part']}: {row['command']}" for row in case["missing"][:ROWS])
    return (
        "<footer><h2>How to read this</h2><p>Main campaign <code>"
        f"{text(main['id'])}</code>: {every} upset of a flip-flop bit in a cycle, "
        f"{number(main['experiments'])} experiments on {number(main['inputs'])} inputs; "
        f"{_audit(audit)}. Intervals at {100 * main['confidence']:g} %."
        f"{text(notes)}</p>"
        f"<p>{_DEFINITIONS}</p>"
        + (f"<p>Missing here: {text(missing)}.</p>" if missing else "")
        + "</footer>"
    )


def _audit(audit: Json) -> str:
    if not audit["sampled"]:
        return "none repeated by an independent simulation"
    counts = f"{number(audit['disagreements'])} of {number(audit['sampled'])}"
    return f"{counts} that an independent simulation repeated differ"
