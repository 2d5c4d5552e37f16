"""What a design costs, without any tool: exact cycles and registers, blocks by rule, LUTs by model.

docs/estimate.md says how each number is made and how far it was found from synthesis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..hw.configure import Fold
from ..hw.linear_config import LinearConfig
from ..hw.watchdog_config import WATCHDOG
from ..quant.errors import InputError
from ..quant.ir import Graph, IntArray
from . import targets
from .costs import luts
from .costs.blocks import products
from .costs.families import FAMILIES, Blocks
from .costs.layer import layer_resources
from .costs.packing import saves_blocks
from .costs.watchdog import watchdog_resources
from .design import Design, prepare
from .folding import Goal
from .plan import Plan
from .targets import Target

__all__ = ["Cost", "LayerCost", "estimate", "estimate_command", "estimate_design"]


@dataclass(frozen=True)
class LayerCost:
    """A layer with the converters before it; None where the family has no model.

    `rtl_ffs` counts register bits of the Verilog, `ffs` flip-flops after synthesis.
    `latency_cycles`: cycle of the first frame's last beat at its output; `initiation_interval`: of
    the layer alone.
    """

    name: str
    op: str
    luts: int | None
    ffs: int | None
    rtl_ffs: int
    dsps: float | None
    brams: float | None
    latency_cycles: int
    initiation_interval: int


@dataclass(frozen=True)
class Cost:
    """A design's cost on a target: the sums over its layers, and its timing in cycles.

    `fmax_mhz` is None: only place and route knows it. `source` says what is exact.
    """

    target: str
    luts: int | None
    ffs: int | None
    rtl_ffs: int
    dsps: float | None
    brams: float | None
    latency_cycles: int
    initiation_interval: int
    fmax_mhz: float | None
    layers: tuple[LayerCost, ...]
    source: str

    def to_json(self) -> dict[str, Any]:
        """The COST object of reports and of --json."""
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}


def estimate_design(design: Design, target: Target) -> dict[str, Any]:
    """COST of a prepared design on a target.

    Raises InputError naming a layer whose lanes cannot share the target's multipliers.
    """
    return _cost(design, target).to_json()


def estimate(
    graph: Graph,
    *,
    target: str = targets.DEFAULT,
    folding: Mapping[str, Fold] | None = None,
    plan: Plan | None = None,
    select_x: IntArray | None = None,
) -> Cost:
    """Cost of a graph; folding is balanced and nothing is hardened unless told otherwise.

    `select_x` are frames [n, *input_shape] that a plan with a TMR share scores neurons on.
    Raises InputError naming the target, or the layer that has no circuit.
    """
    device = targets.find(target)
    return _cost(prepare(graph, folding, plan, select_x), device)


def estimate_command(
    model: str,
    *,
    target: str | None = None,
    plan: Path | None = None,
    fold: str = "auto",
    fps: float | None = None,
    fit: float | None = None,
    clock_mhz: float | None = None,
    explain: bool = False,
    resilience: bool = False,
    calibration: Path | None = None,
    trust_model: bool = False,
    quantisation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`tercet estimate`: COST of MODEL or of a build directory, and frames a second.

    A directory brings its own folding, plan and target. `fold` is "auto" or a TOML file;
    `fps`, `fit` and `clock_mhz` as in `folding.Goal`; `explain` adds what each layer needs,
    `resilience` the predicted vulnerable bit-cycles (`flow.resilience`), which need inputs. Raises
    InputError naming file or option.
    """
    from .explain import explanation, rate
    from .sources import built_design, model_design

    wish = Goal(fold, fps, fit, clock_mhz)
    if Path(model).is_dir():
        design, built_for = built_design(Path(model), plan=plan, goal=wish)
        device = targets.find(target or built_for)
    else:
        device = targets.find(target or targets.DEFAULT)
        design = model_design(
            model,
            target=device,
            plan=plan,
            goal=wish,
            calibration=calibration,
            quantisation=quantisation,
            trust_model=trust_model,
        )
    result = estimate_design(design, device)
    result |= rate(result["initiation_interval"], wish, device)
    if explain:
        result |= explanation(design, result, device)
    if resilience:
        from .resilience.command import predicted

        result["resilience"] = predicted(design, model, calibration)
    return result


def _check_pairs(design: Design, target: Target, family: Blocks) -> None:
    """InputError, naming the layer, if two products do not share a multiplier of the target."""
    for layer in design.layers:
        if isinstance(layer, LinearConfig) and layer.pairs and not saves_blocks(layer, family):
            (shared,) = (one for one in products(layer) if one.role == "pair")
            raise InputError(
                f'layer {layer.name}: multiplier = "dsp2" multiplies {shared.a[0]} by '
                f"{shared.b[0]} bits, for which {target.name} has no multiplier that saves one; "
                'set multiplier = "dsp"'
            )


def _cost(design: Design, target: Target) -> Cost:
    family, timing = FAMILIES.get(target.family.name), design.timing()
    if family:
        _check_pairs(design, target, family)
    model = luts.model(target.family.name) if family else None
    counted = layer_resources(design.layers, target.family.name)
    found = []
    for layer, one in zip(design.layers, counted, strict=True):
        counts = (one.luts, one.ffs, one.rtl_ffs, one.dsps, one.brams)
        end = timing.layers[layer.name][0]
        found.append(LayerCost(layer.name, layer.op, *counts, end, layer.cycles_per_frame))
    if design.watchdog is not None:
        one = watchdog_resources(design.watchdog, model)
        counts = (one.luts, one.ffs, one.rtl_ffs, one.dsps, one.brams)
        found.append(LayerCost(WATCHDOG, "Watchdog", *counts, timing.latency_cycles, 1))
    return Cost(
        target=target.name,
        luts=_total([layer.luts for layer in found]),
        ffs=_total([layer.ffs for layer in found]),
        rtl_ffs=sum(layer.rtl_ffs for layer in found),
        dsps=_total([layer.dsps for layer in found]),
        brams=_total([layer.brams for layer in found]),
        latency_cycles=timing.latency_cycles,
        initiation_interval=timing.initiation_interval,
        fmax_mhz=None,
        layers=tuple(found),
        source=_source(target, family, model),
    )


def _total(values: list[Any]) -> Any:
    return None if None in values else sum(values)


def _source(target: Target, family: Blocks | None, model: luts.Model | None) -> str:
    """What is exact and what is a model, in one sentence each."""
    exact = "cycles and rtl_ffs are exact"
    if family is None:
        return f"{exact}; no model for {target.family.name}: run `tercet synth`"
    counts = "dsps, brams and ffs follow the rules of Yosys"
    if model is None:
        return f"{exact}; {counts}; no LUT model for {target.family.name}: run `tercet synth`"
    return (
        f"{exact}; {counts} ({model.errors['ffs']:.1%} mean error of ffs); luts are a model of "
        f"{model.designs} designs, {model.tools}: {model.errors['luts']:.1%} mean error on designs "
        f"left out, {model.errors['worst']:.0%} the worst"
    )
