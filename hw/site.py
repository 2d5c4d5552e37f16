"""Named registers with a role: every flip-flop bit of a design says what it is for.

The role travels as an attribute of the Verilog register; `sim.sites` reads it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Signal

__all__ = ["ROLES", "Site", "is_reset"]

ROLES = (
    "product",
    "accumulator",
    "activation",
    "window",
    "weight",
    "control",
    "requant",
    "fifo",
    "checker",
    "voter",
)


@dataclass(frozen=True)
class Site:
    """Where a register lives: its layer, and its lane and replica where it has them."""

    layer: str
    lane: int | None = None
    replica: int | None = None

    def register(
        self, shape: Any, name: str, role: str, *, init: Any = 0, reset_less: bool | None = None
    ) -> Signal:
        """A signal that becomes flip-flops: control has a reset, the datapath none.

        `reset_less` where a register follows another one and not its role.

        Raises ValueError for a role that is not in `ROLES`.
        """
        if role not in ROLES:
            raise ValueError(f"{name}: unknown role {role!r}")
        attributes = {"role": role, "layer": self.layer}
        if self.lane is not None:
            attributes["lane"] = str(self.lane)
        if self.replica is not None:
            attributes["replica"] = str(self.replica)
        if reset_less is None:
            reset_less = not is_reset(role)
        return Signal(shape, name=name, attrs=attributes, reset_less=reset_less, init=init)


def is_reset(role: str) -> bool:
    """Whether registers of a role have a reset."""
    return role in ("control", "fifo", "checker")
