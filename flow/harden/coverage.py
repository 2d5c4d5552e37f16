"""What share of the wrong results each setting of a plan leaves: measured, by group of registers.

`tables/coverage.json` holds counts of campaigns, and the command that made it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from ...hw.fold import Protection
from ...quant.errors import InputError

__all__ = ["SCOPE", "WATCHED", "Coverage", "settings"]

SCOPE = {
    "control": ("control",),
    "checksum": ("product", "accumulator", "weight", "control"),
    "retry": (),
    "tmr": ("product", "accumulator", "weight"),
    "weights": ("weight",),
    "stream": ("stream",),
    "post": ("post",),
}
"""Groups of registers that a setting changes the risk of."""

WATCHED = " watchdog"
"""Ends the value of a control setting that was measured with a watchdog."""

Json = dict[str, Any]


def settings(guard: Protection) -> dict[str, str]:
    """Settings of a layer's protection that are not the plain one's, as the table names them.

    >>> settings(Protection(modulus=3, control="parity"))
    {'control': 'parity', 'checksum': '3'}
    """
    found = {}
    if guard.control != "none":
        found["control"] = guard.control
    if guard.modulus is not None:
        found["checksum"] = f"{guard.modulus}{' input' * (guard.form == 'input')}"
    if guard.retry:
        found["retry"] = str(guard.retry)
    if guard.neurons:
        found["tmr"] = guard.mode
    for key in ("weights", "stream", "post"):
        if getattr(guard, key) != "none":
            found[key] = getattr(guard, key)
    return found


@dataclass(frozen=True)
class Coverage:
    """The measured counts: design -> setting ("control=parity"; "plain") -> group of registers ->
    [wrong results, upsets, bits, cycles of an inference]."""

    designs: Mapping[str, Mapping[str, Mapping[str, list[float]]]]

    @classmethod
    @functools.lru_cache(maxsize=1)
    def load(cls) -> Coverage:
        """The table that comes with tercet."""
        text = resources.files(__package__).joinpath("tables/coverage.json").read_text()
        return cls(json.loads(text)["designs"])

    def values(self, key: str) -> tuple[str, ...]:
        """Values of a setting that were measured, alone: "none" is not among them."""
        names = {name for found in self.designs.values() for name in found}
        values = (name.split("=")[1] for name in names if name.startswith(f"{key}="))
        return tuple(sorted(value for value in values if not value.endswith(WATCHED)))

    @property
    def watched(self) -> bool:
        """Whether the control settings were measured with a watchdog too."""
        wanted = {f"control={value}{WATCHED}" for value in ("none", *self.values("control"))}
        return any(wanted <= found.keys() for found in self.designs.values())

    def left(self, key: str, value: str, group: str) -> float:
        """Share of the plain designs' wrong results that are left in a group of registers.

        Half an event more than was seen, and in one upset more: no setting is taken for perfect.
        Above 1 where a setting adds registers that matter. Raises InputError for a setting that
        was not measured.
        """
        if group not in SCOPE[key]:
            return 1.0
        plain = after = 0.0
        for found in self.designs.values():
            if f"{key}={value}" in found:
                wrong, upsets, bits, cycles = found["plain"].get(group, (0, 1, 0, 0))
                plain += wrong / max(upsets, 1) * bits * cycles
                wrong, upsets, bits, cycles = found[f"{key}={value}"].get(group, (0, 0, 0, 0))
                after += (wrong + 0.5) / (upsets + 1) * bits * cycles
        if not any(f"{key}={value}" in found for found in self.designs.values()):
            raise InputError(f"harden: {key} {value} was not measured: its effect is not known")
        return after / plain if plain else 1.0

    def added(self) -> float:
        """P(a wrong class) of an upset in a register that only protection needs."""
        wrong = upsets = 0.0
        for found in self.designs.values():
            for name, groups in found.items():
                if name != "plain" and "added" in groups:
                    wrong += groups["added"][0]
                    upsets += groups["added"][1]
        return (wrong + 0.5) / (upsets + 1)
