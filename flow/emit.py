"""Layers -> Verilog: Amaranth writes RTLIL, Yosys the Verilog, replicas keep their modules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from ..hw.config import LayerConfig
from ..hw.linear_config import LinearConfig
from ..hw.top import Top
from .yosys import run

__all__ = ["TOP", "emit", "voters"]

TOP = "top"
STATEMENTS = 32
"""Words of a memory that one initial block sets."""

_INITIAL = re.compile(r"^  initial begin\n((?:    .*;\n)+)  end\n", re.MULTILINE)

INTERNAL = ("generator", "src", "amaranth.hierarchy", "amaranth.decoding", "top")


def emit(layers: tuple[LayerConfig, ...], workdir: Path) -> Path:
    """Write `workdir`/top.v, and return its path.

    Register roles are attributes; modules of replicas and voters carry `keep_hierarchy`, without
    which synthesis merges them. Raises InputError when Yosys is missing.
    """
    (workdir / "top.il").write_text(rtlil.convert(Top(layers), name=TOP, emit_src=False))
    kept = [
        f"{TOP}.{path}" for voter in voters(layers) for path in (voter["path"], *voter["replicas"])
    ]
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


def voters(layers: tuple[LayerConfig, ...]) -> list[dict[str, Any]]:
    """The manifest's entries: instance path, layer, lane, the replicas' paths, width in bits."""
    found: list[dict[str, Any]] = []
    for layer in layers:
        if not isinstance(layer, LinearConfig):
            continue
        for lane in layer.replicated:
            found.append(
                {
                    "path": f"{layer.name}.voter_{lane}",
                    "layer": layer.name,
                    "lane": lane,
                    "replicas": [f"{layer.name}.lane_{lane}_r{r}" for r in range(3)],
                    "width": layer.acc_bits,
                }
            )
    return found
