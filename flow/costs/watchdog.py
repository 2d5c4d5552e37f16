"""What the watchdog behind a network costs: registers exact, LUTs by the prices of its family."""

from __future__ import annotations

from ...hw.watchdog_config import WatchdogConfig
from .layer import Resources
from .luts import Model
from .registers import REPLICAS

__all__ = ["watchdog_resources"]

COUNTER_LUTS = 5.0
"""LUTs for each bit of its counters: increment, comparison, reload; 147 LUTs of 22 bits on ECP5."""


def watchdog_resources(config: WatchdogConfig, model: Model | None) -> Resources:
    """LUTs, flip-flops (in the netlist and in the Verilog), multipliers and memory blocks."""
    bits = config.register_bits
    luts = None
    if model is not None:
        luts = round(model.luts({"control_voter_bits": bits}, 0) + COUNTER_LUTS * bits)
    return Resources(luts, REPLICAS * bits, REPLICAS * bits, 0, 0)
