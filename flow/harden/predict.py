"""What a plan should cost and leave: the estimator's area, the profile times the coverage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hw.config import INPUT, LayerConfig
from ...hw.fold import UNPROTECTED, Fold, Protection
from ...hw.linear_config import LinearConfig
from ...hw.watchdog_config import watchdog
from ...quant.errors import InputError
from ...quant.ir import Graph, IntArray
from ..costs import ffs, luts
from ..costs.layer import Resources, around, forks, layer_resources, operand_lanes
from ..costs.registers import Register
from ..costs.watchdog import watchdog_resources
from ..demo import area
from ..design import Design, arrange
from ..plan import Plan
from ..targets import Target
from .coverage import SCOPE, WATCHED, Coverage, settings
from .profile import ADDED, Profile, group

__all__ = ["Prediction", "Predictor"]

Scores = Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]
Cells = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Prediction:
    """`area` of a design, `overhead` over the plain one's as a share of it, `ratio` of vulnerable
    bit-cycles to the plain one's."""

    area: float
    overhead: float
    ratio: float


class Predictor:
    """Predicts plans for one graph, folding and target.

    `scores` are those of the neurons of each convolution and dense layer [out_channels]. With
    `with_watchdog` every plan has one; overheads and ratios are over the design without. Raises
    InputError for a target whose LUTs have no model.
    """

    def __init__(
        self,
        graph: Graph,
        folding: Mapping[str, Fold],
        target: Target,
        profile: Profile,
        scores: Scores,
        coverage: Coverage | None = None,
        with_watchdog: bool = False,
    ) -> None:
        self.graph, self.folding, self.target = graph, folding, target
        self.profile, self.scores = profile, scores
        self.coverage = coverage or Coverage.load()
        self.watchdog = with_watchdog
        self.plain = self.design({})
        self.plain_area = self.area(self.plain)
        self.watchdog_area = self._watchdog_area() if with_watchdog else 0.0
        self.layers = {layer.name: layer for layer in self.plain.layers}

    def watched(self) -> Predictor:
        """The same of plans with a watchdog."""
        return Predictor(
            self.graph, self.folding, self.target, self.profile, self.scores, self.coverage, True
        )

    def _watchdog_area(self) -> float:
        """Of the watchdog of the plain design; those of hardened ones wait a little longer."""
        config = watchdog(self.plain.layers, self.plain.timing())
        model = luts.model(self.target.family.name)
        return area(_counts(watchdog_resources(config, model)))

    def design(self, guards: Mapping[str, Protection]) -> Design:
        """The design with some layers protected. Raises InputError where no circuit can be."""
        every = {name: guards.get(name, UNPROTECTED) for name in self.folding}
        return arrange(self.graph, self.folding, Plan(), every)

    def area(self, design: Design) -> float:
        """LUT + 0.5 FF + 100 DSP + 200 BRAM of the layers, estimated."""
        found = layer_resources(design.layers, self.target.family.name)
        if any(one.luts is None for one in found):
            raise InputError(
                f"harden: LUTs of {self.target.name} have no model, so that costs cannot be "
                "compared; choose a target of ecp5, ice40, gowin or xc7 with one"
            )
        return sum(area(_counts(one)) for one in found)

    def predict(self, guards: Mapping[str, Protection]) -> Prediction:
        """Cost and ratio of a whole plan, by layer."""
        design = self.design(guards)
        total = self.area(design) + self.watchdog_area
        ratio = sum(self.left(design).values()) / self.profile.total
        return Prediction(total, total / self.plain_area - 1, ratio)

    def left(self, design: Design) -> Cells:
        """Vulnerable bit-cycles that the design's protections leave, by (layer, group)."""
        layers = {layer.name: layer for layer in design.layers}
        found: Cells = {}
        for (name, role), cell in self.profile.cells.items():
            layer = layers.get(name)
            kind = group(layer, role)
            key = name, kind
            share = 1.0 if layer is None else self._share(design, layer, kind)
            found[key] = found.get(key, 0.0) + cell.critical * share
        rate = self.coverage.added() * self.profile.initiation_interval
        for name, bits in _added(design).items():
            if bits:
                found[name, ADDED] = found.get((name, ADDED), 0.0) + rate * bits
        return found

    def _share(self, design: Design, layer: LayerConfig, kind: str) -> float:
        """What is left of one cell: settings of the layer act one after the other."""
        if kind == "stream":
            return self._words(design, layer)
        guard = design.protection[layer.name]
        stated = settings(guard)
        if self.watchdog:
            stated["control"] = guard.control + WATCHED
        share = 1.0
        for key, value in stated.items():
            if kind not in SCOPE[key]:
                continue
            left = self.coverage.left(key, value, kind)
            if key == "tmr":
                voted = hardened(design, layer, self.scores)
                left = 1.0 - voted * (1.0 - left)
            share *= left
        return share

    def _words(self, design: Design, layer: LayerConfig) -> float:
        """A word carries the code of the layer that made it; operands count alike."""
        shares = []
        for source in layer.sources:
            code = "none" if source == INPUT else design.protection[source].stream
            shares.append(1.0 if code == "none" else self.coverage.left("stream", code, "stream"))
        return sum(shares) / len(shares)


def hardened(design: Design, layer: LayerConfig, scores: Scores) -> float:
    """Share of a layer's risk in the neurons whose lanes are triplicated, chosen or not."""
    if not isinstance(layer, LinearConfig) or not layer.replicated:
        return 0.0
    risk = scores[layer.name]
    order = design.permutation.get(layer.name)
    places = np.arange(len(risk))
    neurons: IntArray = places if order is None else np.asarray(order)
    lanes = layer.pe // layer.pixels
    voted = {lane % lanes for lane in layer.replicated}
    chosen = neurons[[place % lanes in voted for place in places]]
    if not risk.sum():
        return len(chosen) / len(risk)
    return float(risk[chosen].sum() / risk.sum())


def _counts(one: Resources) -> dict[str, Any]:
    return {"luts": one.luts, "ffs": one.ffs, "dsps": one.dsps, "brams": one.brams}


def _added(design: Design) -> dict[str, int]:
    """Register bits of checkers and voters, by layer."""
    layers = design.layers
    between = zip(layers, operand_lanes(layers), forks(layers), strict=True)
    return {
        layer.name: sum(
            one.total for one in _registers(layer, lanes, behind) if one.role in _ADDED_ROLES
        )
        for layer, lanes, behind in between
    }


def _registers(layer: LayerConfig, lanes: tuple[int, ...], behind: Any) -> list[Register]:
    return [*ffs.registers(layer), *around(layer, lanes, behind)]


_ADDED_ROLES = ("checker", "voter")
