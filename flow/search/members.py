"""Members of the front as files that `tercet build` makes circuits of.

DIR/members/NUMBER/ holds graph.json, folding.toml, plan.toml, vectors.npz (the test images) and
README.md with the command. The plan needs no inputs any more: its neurons are listed, its bounds
are in the graph.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...quant import serialize
from ...quant.errors import InputError
from ...quant.ir import IntArray
from ...quant.names import printable
from ...quant.quantize import quantize_input
from ..design import Design
from ..folding import folding_json
from ..harden.toml_text import toml_text
from ..plan import Plan, Settings, Tmr
from .archive import Record
from .evaluate import Evaluator

__all__ = ["build_command", "stated_plan", "test_frames", "write_member"]

FOLDER = "members"


def build_command(folder: Path, number: int, target: str) -> str:
    """What makes the circuit of a member of the search in `folder`."""
    member = folder / FOLDER / str(number)
    parts = ["tercet", "build", str(member / "graph.json")]
    for option, name in (("fold", "folding.toml"), ("plan", "plan.toml"), ("vectors", VECTORS)):
        parts += [f"--{option}", str(member / name)]
    return shlex.join([*parts, "--target", target, "-o", str(member / "build")])


VECTORS = "vectors.npz"


def write_member(evaluator: Evaluator, folder: Path, record: Record) -> Path:
    """Write a member; returns its folder. Raises InputError where it cannot be written."""
    space = evaluator.space
    design = evaluator.design(space.decode(np.array(record.encoding)))
    place = folder / FOLDER / str(record.number)
    frames, labels = test_frames(evaluator, design)
    command = build_command(folder, record.number, space.target)
    try:
        place.mkdir(parents=True, exist_ok=True)
        serialize.save(design.graph, place / "graph.json")
        fold = toml_text({"layer": folding_json(design.folding)})
        (place / "folding.toml").write_text(fold)
        (place / "plan.toml").write_text(toml_text(stated_plan(design).to_json()))
        np.savez_compressed(place / VECTORS, x=frames, labels=labels)
        (place / "README.md").write_text(_readme(record, command))
    except OSError as error:
        raise InputError(f"{printable(str(place))}: cannot be written: {error.strerror}") from None
    return place


def test_frames(evaluator: Evaluator, design: Design) -> tuple[IntArray, IntArray]:
    """The test images as integers [n, *input_shape], and their labels [n]."""
    images = evaluator.images
    return quantize_input(design.graph, images.test_x), np.asarray(images.test_y, np.int64)


def stated_plan(design: Design) -> Plan:
    """The plan of a design, with the neurons that it chose by a share listed and without the
    bounds, which are in the design's graph already."""
    layers = {
        name: replace(settings, bound=None, tmr=None)
        for name, settings in design.plan.layers.items()
    }
    for name, guard in design.protection.items():
        if guard.neurons:
            order = design.permutation.get(name)
            chosen = guard.neurons if order is None else [int(order[n]) for n in guard.neurons]
            tmr = Tmr(tuple(sorted(chosen)), mode=guard.mode, voters=guard.voters)
            layers[name] = replace(layers.get(name, Settings()), tmr=tmr)
    return Plan(replace(design.plan.default, bound=None, tmr=None), layers, design.plan.watchdog)


def _readme(record: Record, command: str) -> str:
    objectives: Mapping[str, float] = record.objectives or {}
    lines = [f"# Candidate {record.number}", "", f"    {command}", ""]
    lines += [f"- {printable(name)}: {printable(str(v))}" for name, v in record.genome.items()]
    lines += ["", *(f"- {printable(name)}: {value:g}" for name, value in objectives.items())]
    return "\n".join(lines) + "\n"
