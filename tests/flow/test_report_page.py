"""Cells and charts of the page: foreign names are text, shares never look better than they are."""

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from tercet.flow.report import cells, charts, uncovered
from tercet.flow.report.measure import Measured
from tercet.flow.report.page import page
from tercet.sim.manifest import Register
from tercet.sim.outcomes import Outcome

HOSTILE = '<script>alert(1)</script>\n&\x1b[31m"'


def test_foreign_text_is_neither_markup_nor_control():
    shown = charts.text(HOSTILE)

    assert shown == "&lt;script&gt;alert(1)&lt;/script&gt;\\n&amp;\\x1b[31m&quot;"
    assert charts.text("a" * 300) == "a" * 300


def test_hostile_names_stay_text_everywhere():
    outcomes = {"due": 3, "masked": 1}
    made = [
        cells.table(("x", HOSTILE), [(HOSTILE, HOSTILE)], (1,)),
        cells.figure(HOSTILE, HOSTILE, HOSTILE),
        charts.bars({HOSTILE: outcomes}, ("due", "masked"), HOSTILE),
    ]

    for text in made:
        assert "<script" not in text
        assert "\x1b" not in text
        assert text.count("&lt;script&gt;") >= 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.00 %"),
        (1.0, "100.00 %"),
        (0.5, "50.00 %"),
        (1e-6, "<0.01 %"),
        (1 - 1e-6, ">99.99 %"),
        (0.00004, "<0.01 %"),
        (0.99996, ">99.99 %"),
    ],
)
def test_shares_are_never_rounded_to_none_or_all(value, shown):
    assert cells.percent(value) == shown


def test_missing_numbers_are_dashes():
    assert cells.number(None) == cells.number("7") == cells.number(True) == "-"
    assert cells.short(None) == cells.span(None) == "-"
    assert cells.number(1234567) == "1,234,567"
    assert cells.span({"value": 0.5, "low": None, "high": None}) == "50.00 %"
    assert cells.span({"value": 0.5, "low": 0.25, "high": 0.75}) == "50.00 % (25.00 to 75.00)"


def test_small_ratios_keep_their_digits():
    found = {"value": 0.00123, "low": 0.0, "high": None}

    assert cells.ratio(found) == ("0.00123", "0", "unbounded")
    assert cells.ratio(found | {"value": None})[0] == "no critical upset in the other"


def test_bars_are_shares_of_all_that_the_row_counts():
    text = charts.bars({"a": {"due": 1, "masked": 3}}, ("due",), "one")
    widths = [float(w) for w in re.findall(r'width="([0-9.]+)" height="13', text)]

    assert len(widths) == 1
    whole = charts.bars({"a": {"due": 4}}, ("due",), "one")
    (full,) = [float(w) for w in re.findall(r'width="([0-9.]+)" height="13', whole)]
    assert widths[0] == pytest.approx(full / 4, abs=0.01)


def test_columns_of_the_histogram_add_up_to_the_tallest():
    bins = [
        {"from": 0, "to": 0, "detected": 4, "late": 2},
        {"from": 1, "to": 1, "detected": 3, "late": 0},
    ]
    text = charts.histogram(bins, ("detected", "late"), "latency")
    heights = re.findall(r'height="([0-9.]+)" fill="[^"]*"><title>([^<]*cycles: \d+)', text)
    found = {title: float(height) for height, title in heights}

    assert found["0 cycles: 4"] + found["0 cycles: 2"] == pytest.approx(96)
    assert found["1 cycles: 3"] == pytest.approx(48)


# ------------------------------------------------------------------------------------------ page


def rate(value=0.25):
    return {"value": value, "low": value, "high": value, "events": 1, "trials": 4}


def group():
    outcomes = {o.label: 1 for o in Outcome}
    more = {"sdc_critical": rate(), "vulnerable_bit_cycles": 7.0, "diagnostic_coverage": rate()}
    return {"bits": 3, "experiments": 9, "outcomes": outcomes} | more


def case(count):
    """A safety case with `count` of everything that there may be many of, each name hostile."""
    names = [f"{HOSTILE}{n}" for n in range(count)]
    leaks = {"sdc_critical": 1, "hang": 0, "sdc_tolerable": 0, "share": 0.5, "bits": 3}
    classes = [
        leaks | {"layer": name, "role": f"role {n % 12}", "reason": name, "kind": HOSTILE}
        for n, name in enumerate(names)
    ]
    found = {"experiments": 5, "inputs": 2, "avf": 0.5, "low": 0.4, "high": 0.6, "part": True}
    models = [{"model": HOSTILE, "campaigns": [found | {"id": n} for n in names], "command": None}]
    models += [{"model": "other", "campaigns": [], "command": HOSTILE}]
    keys = (
        *("diagnostic_coverage", "critical_coverage", "single_point_like", "latent_like"),
        *("availability_loss", "false_alarm"),
    )
    overhead = {"luts": 0.1, "ffs": None, "dsps": 0, "brams": 0, "area": 0.2}
    cycles = {"this": 3, "plain": 2}
    return group() | {
        "name": HOSTILE,
        "target": HOSTILE,
        "design": HOSTILE,
        "plan": {"default": {HOSTILE: HOSTILE}, "layer": {key: {"x": names} for key in names}},
        "latency_cycles": 1,
        "initiation_interval": 2,
        "ff_bits": 3,
        "area": {"measured": None, "estimated": None},
        "fmax_mhz": HOSTILE,
        "replicas": {"expected": HOSTILE, "found": HOSTILE},
        "verify": None,
        "metrics": {key: rate() for key in keys},
        "by_role": {name: group() for name in names},
        "by_layer": {name: group() for name in names},
        "detection_latency": None,
        "covered_bits": {"share": 0.5},
        "undetected_sites": [leaks | {"name": n, "layer": n, "role": n} for n in names],
        "uncovered": classes,
        "fault_models": models,
        "never_covered": [HOSTILE],
        "against": {
            "directory": HOSTILE,
            "ratio": {"value": 0.1, "low": 0.05, "high": None, "paired": False},
            "area": {"source": "measured", "overhead": overhead},
            "latency_cycles": cycles,
            "initiation_interval": cycles,
            "notes": [HOSTILE],
        },
        "missing": [{"part": name, "command": name} for name in names],
        "campaign": {
            "id": HOSTILE,
            "exhaustive": False,
            "experiments": 5,
            "inputs": 2,
            "confidence": 0.95,
            "notes": [HOSTILE],
            "audit": {"sampled": 0, "disagreements": 0},
        },
    }


def test_a_page_of_hostile_names_holds_no_markup_of_theirs():
    text = page(case(3))

    assert "<script" not in text
    assert "\x1b" not in text
    assert text.count("&lt;script&gt;") > 40
    assert HTMLParser().feed(text) is None


def test_the_page_of_a_large_network_is_no_longer():
    large, small = page(case(400)), page(case(20))

    assert large.count("<tr>") == small.count("<tr>")
    assert len(large) < 1.2 * len(small)
    assert "391 more layers in the JSON" in large
    assert "394 more registers" in large
    assert "and 28 more" in large


# --------------------------------------------------------------------------------------- reasons


def manifest(protection, replicas=0):
    width = 4
    registers = [
        Register(f"conv.acc_{n}", width, "accumulator", "conv", 0, n if n < replicas else None)
        for n in range(3)
    ]
    names = {"conv": "Conv2d", "pool": "MaxPool"}
    layers = tuple(SimpleNamespace(name=name, op=op) for name, op in names.items())
    raw = {"protection": protection}
    return SimpleNamespace(layers=layers, registers=registers, raw=raw, directory="d")


def reasons(protection, *names, replicas=0):
    counts = np.zeros((len(names), 1, 9, 2), np.int64)
    counts[:, 0, 7, 1] = 1
    found = Measured(None, names, np.full(len(names), 12), counts, True)
    rows = uncovered.classes(found, manifest(protection, replicas))
    return {(row["layer"], row["role"]): row for row in rows}


FULL = {
    "modulus": 7,
    "control": "tmr",
    "stream": "residue",
    "post": "dup",
    "weights": "parity",
}


@pytest.mark.parametrize(
    ("layer", "role", "covered", "reason"),
    [
        ("conv", "product", "checksum modulo 7", "an error that the modulus divides"),
        ("pool", "accumulator", "post = dup", "an error that all copies share"),
        ("conv", "weight", "weights = parity", "what the code cannot tell"),
        ("conv", "window", "stream = residue", "what the code cannot tell"),
        ("to_conv", "fifo", "stream = residue", "what the code cannot tell"),
        ("conv", "control", "control = tmr", "an upset behind the voter"),
        ("conv", "checker", "itself", "part of the protection"),
    ],
)
def test_what_covers_a_class_and_what_it_misses(layer, role, covered, reason):
    row = reasons({"conv": FULL, "pool": FULL}, (layer, role))[layer, role]

    assert row["covered_by"] == covered
    assert row["covered_bits"] == 12
    assert reason in row["reason"]


def test_a_class_that_the_plan_leaves_out_says_so():
    rows = reasons({"conv": {"modulus": None}}, ("conv", "weight"), ("conv", "odd"))

    assert rows["conv", "weight"]["reason"] == "weights of layer conv: the plan says none"
    assert rows["conv", "weight"]["kind"] == "weights: the plan says none"
    reason = "no key of the plan protects registers of role odd in conv"
    assert rows["conv", "odd"]["reason"] == reason
    (other,) = reasons({}, ("guard", "control")).values()
    assert other["reason"] == "no key of the plan protects registers of role control in guard"
    assert rows["conv", "weight"]["covered_bits"] == rows["conv", "odd"]["covered_bits"] == 0


def test_weights_without_a_code_are_seen_by_the_checksum():
    row = reasons({"conv": {"modulus": 3}}, ("conv", "weight"))["conv", "weight"]

    assert row["covered_by"] == "checksum modulo 3"


@pytest.mark.parametrize(
    ("replicas", "bits", "reason"),
    [(1, 4, "4 of 12 bits triplicated"), (3, 12, "triplicated; left is an upset before")],
)
def test_triplicated_lanes_cover_their_own_bits(replicas, bits, reason):
    row = reasons({"conv": {}}, ("conv", "accumulator"), replicas=replicas)["conv", "accumulator"]

    assert (row["covered_by"], row["covered_bits"]) == ("replicas", bits)
    assert row["reason"].startswith(reason)


def test_what_is_triplicated_by_itself_needs_no_key():
    (row,) = reasons({}, ("conv", "accumulator"), replicas=3).values()

    assert (row["covered_by"], row["covered_bits"]) == ("replicas", 12)
    assert row["reason"].startswith("triplicated; left is")
