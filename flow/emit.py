"""Layers -> Verilog: Amaranth writes RTLIL, Yosys the Verilog, replicas keep their modules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from ..hw.config import LayerConfig
from ..hw.linear_config import LinearConfig
from ..hw.top import Top
from ..hw.watchdog_config import WatchdogConfig
from .yosys import run

__all__ = ["TOP", "emit", "voters"]

TOP = "top"
STATEMENTS = 32
"""Words of a memory that one initial block sets."""

_INITIAL = re.compile(r"^  initial begin\n((?:    .*;\n)+)  end\n", re.MULTILINE)

_VOTER = re.compile(
    rf"^module \\{TOP}\.(\S+)\.(control|post)_voter\b.*?^  output (?:\[(\d+):0\] )?y ?;",
    re.M | re.S,
)
_TRIPLED = ("{}_voter", "{}_r0", "{}_r1", "{}_r2")

INTERNAL = ("generator", "src", "amaranth.hierarchy", "amaranth.decoding", "top")


def emit(
    layers: tuple[LayerConfig, ...], workdir: Path, watchdog: WatchdogConfig | None = None
) -> Path:
    """Write `workdir`/top.v, and return its path.

    Register roles are attributes; modules of replicas and voters carry `keep_hierarchy`, without
    which synthesis merges them. Raises InputError when Yosys is missing.
    """
    (workdir / "top.il").write_text(rtlil.convert(Top(layers, watchdog), name=TOP, emit_src=False))
    lanes = dict.fromkeys(
        path for voter in _lane_voters(layers) for path in (voter["path"], *voter["replicas"])
    )
    alone = {f"{layer.name}.lane_{lane}" for layer in layers for lane in _voted(layer)}
    kept = [f"{TOP}.{path}" for path in lanes if path not in alone]
    if watchdog or any(layer.control == "tmr" for layer in layers):
        kept += [f"{TOP}.*.{name.format('control')}" for name in _TRIPLED]
    if any(layer.post == "tmr" for layer in layers):
        kept += [f"{TOP}.*.{name.format('post')}" for name in _TRIPLED]
    if any(layer.post == "dup" for layer in layers):
        kept.append(f"{TOP}.*.post_twin")
    strip = " ".join(f"-remove {name}" for name in INTERNAL)
    commands = [
        "read_rtlil top.il",
        f"hierarchy -check -top {TOP}",
        "proc -nomux -norom",
        "memory_collect",
        f"attrmap {strip}",
        f"attrmap -modattr {strip}",
        *(f"setattr -mod -set keep_hierarchy 1 {name}" for name in kept),
        "write_verilog -norename top.v",
    ]
    run(commands, workdir=workdir, name="emit")
    path = workdir / "top.v"
    text = path.read_text()
    text = text[text.index("\n") + 1 :]  # the first line names the Yosys build
    path.write_text(_INITIAL.sub(_short_blocks, text))
    for left in ("top.il", "emit.ys", "emit.log"):
        (workdir / left).unlink()
    return path


def _short_blocks(block: re.Match[str]) -> str:
    """An initial block as several: Yosys reads one in time that grows with its square."""
    lines = block[1].splitlines(keepends=True)
    parts = ("".join(lines[i : i + STATEMENTS]) for i in range(0, len(lines), STATEMENTS))
    return "".join(f"  initial begin\n{part}  end\n" for part in parts)


def voters(layers: tuple[LayerConfig, ...], verilog: str) -> list[dict[str, Any]]:
    """The manifest's entries: instance path, layer, lane, the replicas' paths, width in bits.

    Those of lanes, then those of other registers (lane None), found in the text of the Verilog.
    """
    return _lane_voters(layers) + _register_voters(verilog)


def _register_voters(verilog: str) -> list[dict[str, Any]]:
    found = []
    for match in _VOTER.finditer(verilog):
        unit, group = match[1], match[2]
        found.append(
            {
                "path": f"{unit}.{group}_voter",
                "layer": unit.split(".")[0],
                "lane": None,
                "replicas": [f"{unit}.{group}_r{r}" for r in range(3)],
                "width": int(match[3] or 0) + 1,
            }
        )
    return found


def _voted(layer: LayerConfig) -> tuple[int, ...]:
    """Lanes that compute passes three times and vote."""
    return layer.voted if isinstance(layer, LinearConfig) else ()


def _lane_voters(layers: tuple[LayerConfig, ...]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for layer in layers:
        if not isinstance(layer, LinearConfig):
            continue
        for lane in (*layer.replicated, *layer.voted):
            replicas = [f"{layer.name}.lane_{lane}_r{r}" for r in range(3)]
            if layer.voted:  # one lane: two earlier results beside the accumulator
                kept = [f"{layer.name}.result_{lane}_{number}" for number in range(2)]
                replicas = [*kept, f"{layer.name}.lane_{lane}"]
            for number in range(layer.voters):
                found.append(
                    {
                        "path": f"{layer.name}.voter_{lane}" + (f"_r{number}" if number else ""),
                        "layer": layer.name,
                        "lane": lane,
                        "replicas": replicas,
                        "width": layer.acc_bits,
                    }
                )
    return found
