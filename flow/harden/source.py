"""What is hardened, and the inputs it is scored, chosen and judged by: three sets, disjoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...hw.fold import Fold
from ...quant.errors import InputError
from ...quant.ir import Graph, IntArray
from ...quant.names import printable
from .. import targets
from ..folding import Goal
from ..frames import read_frames
from ..goals import folded_design
from ..plan import Plan
from ..sources import built_design, load_graph
from ..targets import Target

__all__ = ["Inputs", "Source", "inputs", "open_source"]

SCORED, PROFILED, JUDGED = 128, 32, 48
"""Frames of each set at most."""


@dataclass(frozen=True)
class Inputs:
    """Frames [n, *input_shape] that neurons are scored on, the plain design is profiled on, and
    plans are judged on; none is in two sets."""

    scores: IntArray
    profile: IntArray
    evaluation: IntArray

    @property
    def counts(self) -> dict[str, int]:
        """How many frames each set holds."""
        return {name: len(frames) for name, frames in vars(self).items()}


@dataclass(frozen=True)
class Source:
    """A graph with its folding and target, and the inputs."""

    name: str
    graph: Graph
    folding: Mapping[str, Fold]
    target: Target
    inputs: Inputs


def open_source(
    model: str,
    *,
    target: str | None,
    calibration: Path | None,
    goal: Goal,
    quantisation: Mapping[str, Any] | None,
    trust_model: bool,
) -> Source:
    """Read MODEL, or the graph, folding and target of a build directory (its plan is left out).

    The inputs are those of `calibration`, in three parts. A directory without it uses its
    vectors.npz so; with it, the vectors judge and the calibration scores and profiles. Raises
    InputError naming the file or the option.
    """
    if Path(model).is_dir():
        design, built_for = built_design(Path(model), plan=None, goal=goal)
        graph, folding = design.graph, design.folding
        device = targets.find(target or built_for)
        own = read_frames(graph, Path(model) / "vectors.npz")[0]
        given = read_frames(graph, calibration)[0] if calibration is not None else None
        return Source(model, graph, folding, device, inputs(given, own))
    if calibration is None:
        raise InputError(
            f"{printable(model)}: harden scores and judges on inputs; give --calibration X.npz"
        )
    device = targets.find(target or targets.DEFAULT)
    graph = load_graph(model, calibration, quantisation, trust_model)
    frames = read_frames(graph, calibration)[0]
    folding = folded_design(graph, device, goal, Plan(), None).folding
    return Source(model, graph, folding, device, inputs(None, frames))


def inputs(selection: IntArray | None, frames: IntArray) -> Inputs:
    """The three sets: `frames` in three parts, or `selection` in two and `frames` to judge by.

    Frames that are there twice count once. Raises InputError if a set would be empty.
    """
    frames = _distinct(frames)
    if selection is None:
        third = len(frames) // 3
        parts = frames[:third], frames[third : 2 * third], frames[2 * third :]
    else:
        evaluation = frames[:JUDGED]
        judged = {frame.tobytes() for frame in evaluation}
        chosen = _distinct(selection)
        others = chosen[[frame.tobytes() not in judged for frame in chosen]]
        half = len(others) // 2
        parts = others[:half], others[half:], evaluation
    if not all(len(part) for part in parts):
        raise InputError(
            "harden: scores, profile and judgement need inputs of their own, and there are too few "
            "different ones; give 3 or more with --calibration (90 for intervals that hold)"
        )
    scores, profile, evaluation = parts
    return Inputs(scores[:SCORED], profile[:PROFILED], evaluation[:JUDGED])


def _distinct(frames: IntArray) -> IntArray:
    """The frames in their order, each once."""
    flat = frames.reshape(len(frames), -1)
    _, first = np.unique(flat, axis=0, return_index=True)
    kept: IntArray = frames[np.sort(first)]
    return kept
