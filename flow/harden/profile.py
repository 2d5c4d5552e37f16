"""Where the plain design is vulnerable: bit-cycles that end in a wrong class, by layer and role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ...hw.config import INPUT, LayerConfig
from ...hw.linear_config import LinearConfig
from ...quant.errors import ClaimError

if TYPE_CHECKING:
    from ..resilience import Resilience

__all__ = ["ADDED", "GROUPS", "Cell", "Profile", "estimated", "group", "home", "measured"]

GROUPS = {
    "control": "control",
    "product": "product",
    "weight": "weight",
    "requant": "post",
    "activation": "stream",
    "window": "stream",
    "fifo": "stream",
    "checker": "added",
    "voter": "added",
}
"""Roles by what covers them; an accumulator's group depends on its layer."""
ADDED = "added"
"""Registers that only a protected design has."""

PRIOR = 20.0
"""Upsets at the rate of a role in all layers that stand beside those of one cell: a cell that was
struck a few times without effect is not safe."""


def group(layer: LayerConfig | None, role: str) -> str:
    """What kind of protection covers the registers of a role in a layer.

    Accumulators of pools, joins and arg-max lie behind no checksum and count as "post"; words of
    the network's input carry no code and count as "input".
    """
    if role == "accumulator":
        return "accumulator" if isinstance(layer, LinearConfig) else "post"
    kind = GROUPS[role]
    if kind == "stream" and layer is not None and {*layer.sources} == {INPUT}:
        return "input"
    return kind


def home(name: str, layers: Sequence[LayerConfig]) -> str:
    """The layer that the registers of `name` belong to: a converter's its reader, a fork's its
    source; a name of something else stays."""
    known = {layer.name for layer in layers}
    if name in known:
        return name
    for layer in layers:
        ports = [f"to_{layer.name}_{port}" for port in range(len(layer.sources))]
        if name in (f"to_{layer.name}", f"fork_{layer.name}", *ports):
            return layer.name
    return name


@dataclass(frozen=True)
class Cell:
    """Registers of one role in one layer: `bits`, and bit-cycles of an inference in which an upset
    ends in a wrong class without a flag (`critical`)."""

    bits: int
    critical: float


@dataclass(frozen=True)
class Profile:
    """Cells of the plain design by (layer, role); `source` says how they were found."""

    cells: Mapping[tuple[str, str], Cell]
    initiation_interval: float
    source: str

    @property
    def total(self) -> float:
        """Vulnerable bit-cycles of the plain design."""
        return sum(cell.critical for cell in self.cells.values())

    def to_json(self) -> dict[str, Any]:
        """Layer -> role -> cell, with the total and the source."""
        layers: dict[str, Any] = {}
        for (layer, role), cell in sorted(self.cells.items()):
            layers.setdefault(layer, {})[role] = asdict(cell)
        return {
            "source": self.source,
            "initiation_interval": self.initiation_interval,
            "vulnerable_bit_cycles": self.total,
            "layers": layers,
        }


def measured(report: Mapping[str, Any], layers: Sequence[LayerConfig]) -> Profile:
    """The profile that the report of a campaign on the plain design shows.

    The rate of each cell is drawn towards that of its role by `PRIOR` upsets. Raises ClaimError if
    no upset was critical: there is nothing to choose by.
    """
    interval = float(report["initiation_interval"])
    counts: dict[tuple[str, str], list[float]] = {}
    for name, roles in report["by_layer_role"].items():
        for role, row in roles.items():
            one = counts.setdefault((home(name, layers), role), [0.0, 0.0, 0.0])
            upsets = row["experiments"]
            one[0] += row["sites"]
            one[1] += upsets
            one[2] += row.get("avf", 0.0) * upsets
    if not sum(events for _, _, events in counts.values()):
        raise ClaimError(
            f"no critical upset among {report['experiments']}: nothing to choose by; "
            "give more --faults or inputs of a trained network"
        )
    rates = _rates(counts)
    cells = {
        key: Cell(int(bits), bits * interval * (events + PRIOR * rates[key[1]]) / (upsets + PRIOR))
        for key, (bits, upsets, events) in counts.items()
    }
    source = f"campaign of {report['experiments']} upsets on {report['inputs']} inputs"
    return Profile(cells, interval, source)


def _rates(counts: Mapping[tuple[str, str], Sequence[float]]) -> dict[str, float]:
    """Critical upsets of all, by role."""
    found = {}
    for role in {role for _, role in counts}:
        rows = [row for (_, other), row in counts.items() if other == role]
        upsets = sum(row[1] for row in rows)
        found[role] = sum(row[2] for row in rows) / upsets if upsets else 0.0
    return found


def estimated(resilience: Resilience) -> Profile:
    """The same from the estimate of the plain design, without a campaign."""
    cells = {
        (layer.name, role): Cell(one.bits, one.critical_bit_cycles)
        for layer in resilience.layers
        for role, one in layer.roles.items()
    }
    return Profile(cells, float(resilience.initiation_interval), "resilience estimate")
