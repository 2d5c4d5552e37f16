"""What the log of groups costs that are computed again (`hw.retry`), by closed form."""

from __future__ import annotations

from collections.abc import Iterator

from ...hw.config import CHECK_CYCLES, clog2
from ...hw.linear_config import LinearConfig
from .registers import Register

__all__ = ["log_control", "log_registers", "log_words"]


def log_registers(layer: LinearConfig) -> Iterator[Register]:
    """Registers of the log; none where nothing is computed again."""
    if not layer.retry:
        return
    yield Register("log", "control", clog2(layer.log_groups), 3)
    yield Register("draining", "control", layer.verdict_delay.bit_length())
    yield Register("tries", "control", layer.retry.bit_length())
    yield Register("spent", "control", 1, 2)
    if layer.retries_flags:
        yield Register("flagged", "checker", 1 + layer.verdict_cycles)


def log_control(layer: LinearConfig) -> int:
    """Control registers beside those of a layer without retry, the marks of verdicts among them."""
    if not layer.retry:
        return 0
    own = sum(one.count for one in log_registers(layer) if one.role == "control")
    return own + CHECK_CYCLES + max(0, layer.requantize_cycles - CHECK_CYCLES)


def log_words(layer: LinearConfig) -> tuple[int, int]:
    """Bits of a word of the log, which is read to issue a group again, and of the oldest group's.

    Raises ValueError for a layer without retry.
    """
    if not layer.retry:
        raise ValueError(f"layer {layer.name} logs no groups")
    window, passes = layer.window, len(layer.window.passes)
    place = window.index_bits + 1 + sum(clog2(n) for n in window.out_size if n > 1)
    turn = clog2(passes) + clog2(layer.steps * sum(layer.leaving)) if passes > 1 else 0
    oldest = window.index_bits + 1 + layer.retries_flags + bool(layer.repeated)
    return place + turn, oldest
