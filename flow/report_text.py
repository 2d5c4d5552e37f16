"""Results on the terminal: short tables. Foreign text is shown as it is, never as markup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from .terminal import cell as _cell
from .terminal import console as _console
from .terminal import table as _table

__all__ = ["build", "demo", "doctor", "estimate", "exactness", "run", "synth", "verify"]

Result = dict[str, Any]


def doctor(result: Result) -> None:
    """One line a check, the fix behind what is missing."""
    console = _console()
    for check in result["checks"]:
        mark = "ok" if check["ok"] else ("MISSING" if check["required"] else "-")
        fix = "" if check["ok"] else f"; fix: {check['fix']}"
        console.print(f"{mark:8}{check['name']:21}{check['detail']}{fix}")
    console.print("ready" if result["ok"] else "not ready: mend what is MISSING")


_RESOURCES = ("luts", "ffs", "dsps", "brams", "carries")


def synth(result: Result) -> None:
    """Measured beside estimated, then replicas and clock."""
    console, guess = _console(), result["estimate"] or {}
    title = f"synthesis for {result['target']}"
    table = _table(title, "", "measured", "estimated", "device has")
    for key in (*_RESOURCES, "fmax_mhz"):
        values = (result[key], guess.get(key), result["capacity"].get(key))
        table.add_row(key, *map(_cell, values))
    console.print(table)
    console.print(f"LUTs are {result['lut_metric']}")
    _replicas(console, result["replicas"])
    if result["bitstream"]:
        console.print(f"bitstream: {result['bitstream']} (streams on any pins: not for a board)")


def _replicas(console: Console, replicas: Result) -> None:
    if not replicas["voters"]:
        console.print("no voters: the plan triplicates nothing")
        return
    console.print(
        f"replicas: {replicas['found']} of {replicas['expected']} voter bits traced to three "
        f"registers and disjoint logic; {replicas['constant']} constant by design"
    )
    points = sorted({name for voter in replicas["voters"] for name in voter["fanout"]})
    console.print(f"fan-out points (one signal for all three): {', '.join(points) or 'none'}")


def verify(result: Result) -> None:
    """One line a bench."""
    console = _console()
    for bench in result["benches"]:
        console.print(f"{'passed' if bench['passed'] else 'FAILED':8}{bench['name']}")
    console.print(
        f"{result['images']} images, {result['mismatches']} mismatches, "
        f"latency {_cell(result['latency_cycles'])} cycles, "
        f"initiation interval {_cell(result['initiation_interval'])} cycles"
    )


def run(result: Result) -> None:
    """One line."""
    same = "equal to" if result["equal_to_reference"] else "DIFFERENT from"
    _console().print(f"{result['images']} images on {result['engine']}: {same} the reference")


def estimate(result: Result) -> None:
    """The totals and the layers' share of them."""
    console = _console()
    keys = ("luts", "ffs", "dsps", "brams", "latency_cycles", "initiation_interval", "fmax_mhz")
    table = _table("estimate", "", "value")
    for key in keys:
        table.add_row(key, _cell(result[key]))
    console.print(table)
    console.print(f"source: {result['source']}")
    _rate(console, result)
    _explanation(console, result)
    _resilience(console, result)


def _resilience(console: Console, result: Result) -> None:
    """Predicted vulnerable bit-cycles by layer and role."""
    found = result.get("resilience")
    if found is None:
        return
    roles = sorted({role for layer in found["layers"] for role in layer["roles"]})
    table = _table("vulnerable bit-cycles, predicted", "layer", *roles, "all")
    for layer in found["layers"]:
        cells = [layer["roles"].get(role, {}).get("vulnerable_bit_cycles", 0.0) for role in roles]
        table.add_row(
            layer["name"], *(f"{cell:,.1f}" for cell in (*cells, layer["vulnerable_bit_cycles"]))
        )
    console.print(table)
    console.print(
        f"{found['vulnerable_bit_cycles']:,.0f} vulnerable bit-cycles, {found['avf']:.2%} of all "
        f"register bits x cycles; without a plan {found['plain_bit_cycles']:,.0f}"
    )


def _rate(console: Console, result: Result) -> None:
    if "fps" in result:
        fps, clock = _cell(result["fps"]), _cell(result["clock_mhz"])
        console.print(f"{fps} frames a second at {clock} MHz, if the clock is reached")


_EXPLAINED = {
    "layer": "layer", "pe": "pe", "simd": "simd", "pixels": "pixels", "multiplier": "from",
    "weights": "weights", "multipliers": "multipliers", "utilisation": "used",
    "cycles_per_frame": "cycles", "luts": "LUT", "ffs": "FF", "dsps": "DSP", "brams": "BRAM",
    "buffer_words": "buffer", "buffer_copies": "copies", "skip_words": "skip", "fifo_beats": "fifo",
}  # fmt: skip
_SHARES = ("utilisation", "share")


def _explanation(console: Console, result: Result) -> None:
    """Folding, cycles and resources by layer; the device's shares; the layer to make faster."""
    if "explain" not in result:
        return
    table = _table("layers", *_EXPLAINED.values())
    for layer in result["explain"]:
        table.add_row(*(_figure(key, layer[key]) for key in _EXPLAINED))
    console.print(table)
    shares = _table("device", "", "used", "of", "share")
    for key, one in result["device"].items():
        shares.add_row(key, *(_figure(name, one[name]) for name in ("used", "have", "share")))
    console.print(shares)
    console.print(f"bottleneck: {result['bottleneck']}")


def _figure(key: str, value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_cell(one) for one in value) or "-"
    return f"{value:.1%}" if key in _SHARES and value is not None else _cell(value)


def exactness(result: Result) -> None:
    """How a quantised model's layers round, where its file says it; nothing for other results."""
    if "exactness" not in result:
        return
    console = _console()
    columns = ("layer", "form", "differ", "steps", "note")
    title = "accumulators whose result is not the model's real number, rounded half to even"
    table = _table(title, *columns)
    for layer in result["exactness"]:
        share = "none" if not layer["largest"] else f"{layer['share']:.4%}"
        row = (layer["layer"], layer["form"], share, _cell(layer["largest"]), layer["note"])
        table.add_row(*row)
    console.print(table)
    for note in result["notes"]:
        console.print(f"note: {note}")


def build(result: Result) -> None:
    """Where the design is and what it should cost."""
    console = _console()
    console.print(f"{result['verilog']} for {result['target']}, manifest {result['manifest']}")
    console.print(
        f"latency {_cell(result['latency_cycles'])} cycles, "
        f"initiation interval {_cell(result['initiation_interval'])} cycles"
    )
    estimate(result["estimate"])
    _rate(console, result)
    _explanation(console, result)


def demo(result: Result) -> None:
    """The variants side by side: a row a figure, "estimated / measured" where there are both."""
    console, variants = _console(), result["variants"]
    console.print(
        f"digits, {result['test_images']} test images: accuracy {result['float_accuracy']:.2%} "
        f"float, {result['int_accuracy']:.2%} int8 (seed {result['seed']})"
    )
    table = _table("", "", *(variant["name"] for variant in variants))
    for title, cell in _DEMO_ROWS:
        table.add_row(title, *(cell(variant) for variant in variants))
    console.print(table)
    console.print(
        "area = LUT + 0.5 FF + 100 DSP + 200 BRAM; intervals at 95 %; register upsets only, "
        "uniform over flip-flop bits x one initiation interval"
    )
    design = f"{result['out']}/{variants[0]['name']}"
    console.print(
        f"{result['seconds']:.0f} s. Next: tercet synth {design} --pnr; "
        f"tercet inject {design} --faults 100000; python examples/widths.py"
    )


def _pair(resource: str) -> Callable[[Result], str]:
    def cell(variant: Result) -> str:
        guess = variant["build"]["estimate"].get(resource)
        return f"{_cell(guess)} / {_cell(variant['synth'][resource])}"

    return cell


def _cycles(key: str) -> Callable[[Result], str]:
    return lambda v: f"{_cell(v['build'][key])} / {_cell(v['verify'][key])}"


def _critical(variant: Result) -> str:
    rate = variant["inject"]["sdc_critical"]
    return f"{rate['avf']:.3%} ({rate['low_inputs']:.3%} to {rate['high_inputs']:.3%})"


def _exposure(variant: Result) -> str:
    """Vulnerable bit-cycles with the interval of the rate."""
    rate = variant["inject"]["sdc_critical"]
    scale = variant["inject"]["ff_bits"] * variant["inject"]["initiation_interval"]
    low, high = rate["low_inputs"] * scale, rate["high_inputs"] * scale
    return f"{rate['vulnerable_bit_cycles']:,.0f} ({low:,.0f} to {high:,.0f})"


def _against_plain(variant: Result) -> str:
    ratio = variant["sdc_ratio"]
    if ratio is None or ratio["value"] is None:
        return "-"
    high = "-" if ratio["high"] is None else f"{ratio['high']:.4f}"
    return f"{ratio['value']:.4f} ({ratio['low']:.4f} to {high})"


def _share(key: str) -> Callable[[Result], str]:
    return lambda v: "-" if v[key] is None else f"{v[key]:+.1%}"


def _images(variant: Result) -> str:
    found = variant["verify"]
    return f"{found['images']}, {found['mismatches']}"


def _traced(variant: Result) -> str:
    found = variant["synth"]["replicas"]
    return f"{found['found']} of {found['expected']}"


def _raised(variant: Result) -> str:
    """Shares of all upsets that ended in a flag on a wrong result, on a right one, in a hang."""
    found = variant["inject"]
    kinds = ("due", "false_alarm", "hang")
    return ", ".join(f"{found['outcomes'][kind] / found['experiments']:.1%}" for kind in kinds)


def _audit(variant: Result) -> str:
    audit = variant["inject"]["audit"]
    return f"{audit['disagreements']} of {audit['sampled']}"


_DEMO_ROWS: tuple[tuple[str, Callable[[Result], str]], ...] = (
    ("images, words that differ", _images),
    ("LUT  estimated / measured", _pair("luts")),
    ("FF", _pair("ffs")),
    ("DSP", _pair("dsps")),
    ("BRAM", _pair("brams")),
    ("area overhead, measured", _share("area_overhead")),
    ("latency  predicted / measured", _cycles("latency_cycles")),
    ("initiation interval", _cycles("initiation_interval")),
    ("voter bits traced", _traced),
    ("upsets", lambda v: _cell(v["inject"]["experiments"])),
    ("critical-SDC AVF", _critical),
    ("vulnerable bit-cycles", _exposure),
    ("ratio to plain", _against_plain),
    ("detection coverage", lambda v: f"{v['inject']['detection_coverage']:.1%}"),
    ("due, false alarm, hang", _raised),
    ("audit disagreements", _audit),
)
