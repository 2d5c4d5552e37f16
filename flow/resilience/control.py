"""How often an upset of a control register changes the class: measured, by kind of layer.

`tables/control.json` holds counts of campaigns, and the command that made it.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

__all__ = ["rate", "table"]

PRIOR = 200.0
"""Upsets at the rate of the family in all kinds that stand beside those of one kind."""


@functools.lru_cache(maxsize=1)
def table() -> dict[str, Any]:
    """The measured counts: {"command", "versions", mode: {kind: {family: [critical, upsets]}}}."""
    text = resources.files(__package__).joinpath("tables/control.json").read_text()
    return dict(json.loads(text))


@functools.lru_cache(maxsize=1024)
def rate(kind: str, family: str, mode: str = "none") -> float:
    """P(the top-1 changes, unflagged) of an upset in a control register in any cycle.

    `kind` is the operator, "converter" or "fork", `family` the register's name in
    `flow.costs.ffs`, `mode` "none" or "parity", with ", watchdog" where the network has one. Where
    a kind was not measured, or little, what all kinds show of the family, and of control, stands
    in; for a mode that was not measured, the one without watchdog.
    """
    kinds = table().get(mode) or table()[mode.split(",")[0]]
    every = _sum(counts for families in kinds.values() for counts in families.values())
    alike = _sum(families[family] for families in kinds.values() if family in families)
    own = kinds.get(kind, {}).get(family, (0, 0))
    shared = (alike[0] + PRIOR * every[0] / every[1]) / (alike[1] + PRIOR)
    return float((own[0] + PRIOR * shared) / (own[1] + PRIOR))


def _sum(counts: Any) -> tuple[int, int]:
    pairs = list(counts)
    return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
