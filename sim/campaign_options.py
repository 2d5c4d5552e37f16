"""What a campaign does, whatever the design: how many experiments, of what, how checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypedDict

from ..quant.errors import InputError
from . import statistics
from .sampling import FaultModel

__all__ = ["AUDIT", "Arguments", "Options"]

DEFAULT_MARGIN = 0.01
STRATA = ("none", "role", "layer")
#: Experiments that an audit repeats, unless another number is asked for.
AUDIT = 500

Json = dict[str, Any]


class Arguments(TypedDict, total=False):
    """The fields of `Options` as keyword arguments."""

    engine: str
    faults: int | None
    margin: float | None
    until: float | None
    exhaustive: bool
    confidence: float
    strata: str
    seed: int
    audit: int
    model: FaultModel


@dataclass(frozen=True)
class Options:
    """What a campaign does, whatever the design; InputError for options that contradict.

    `faults` experiments, or as many as +-`margin` (default 0.01) at `confidence` needs, or until
    the interval of the critical rate is within +-`until`, or all single upsets (`exhaustive`).
    Engine `exhaustive` is the fast one for that. `strata` is none, role or layer. `audit`
    experiments are repeated in cocotb.
    """

    engine: str = "native"
    faults: int | None = None
    margin: float | None = None
    until: float | None = None
    exhaustive: bool = False
    confidence: float = 0.95
    strata: str = "none"
    seed: int = 0
    audit: int = AUDIT
    model: FaultModel = field(default_factory=FaultModel)

    def __post_init__(self) -> None:
        sizes = {"faults": self.faults, "margin": self.margin, "until": self.until}
        given = [name for name, value in sizes.items() if value is not None]
        given += ["exhaustive"] * self.exhaustive
        if len(given) > 1:
            raise InputError(f"give either {' or '.join(given)}, not both")
        if self.faults is not None and self.faults < 1:
            raise InputError("faults must be at least 1")
        for name, value in (("margin", self.margin), ("until", self.until)):
            if value is not None and not 0 < value < 1:
                raise InputError(f"{name} must lie between 0 and 1")
        if not 0 < self.confidence < 1:
            raise InputError("confidence must lie between 0 and 1")
        if self.audit < 0:
            raise InputError("audit must be 0 or more")
        if self.seed < 0:
            raise InputError("seed must be 0 or more")
        if self.strata not in STRATA:
            raise InputError(f"strata must be one of {', '.join(STRATA)}")
        self._check_combinations()

    def _check_combinations(self) -> None:
        model = self.model
        if self.exhaustive and (model.several or model.kind not in ("seu", "memory", "config")):
            raise InputError("exhaustive is for single upsets: fault seu, memory or config")
        if self.strata != "none" and (self.exhaustive or self.until is not None or model.several):
            raise InputError(
                "strata is for a sample of fixed size: not with exhaustive, until, per-inference "
                "or rate"
            )
        if self.engine == "exhaustive" and not (self.exhaustive and model.kind == "seu"):
            raise InputError("engine exhaustive is for exhaustive campaigns of fault seu")

    @property
    def looks(self) -> statistics.Looks | None:
        """When to look whether the sample is large enough."""
        return None if self.until is None else statistics.Looks(self.until, self.confidence)

    def count(self, everything: int | None) -> int:
        """Number of experiments; `everything` is the number of different faults, if finite."""
        if self.faults is not None:
            return self.faults
        if self.looks is not None:
            return min(self.looks.sizes[-1], everything or self.looks.sizes[-1])
        margin = self.margin or DEFAULT_MARGIN
        return statistics.sample_size(margin, self.confidence, everything)

    def to_json(self) -> Json:
        """The options as they are kept with the campaign."""
        return {**vars(self), "model": {k: v for k, v in vars(self.model).items() if v}}
