"""How near a layer's integers come to the real numbers that its file describes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Exactness"]


@dataclass(frozen=True)
class Exactness:
    """One layer's statement.

    `form` names what was built: "integer", "thresholds" or "rescaled". `share` is the share of the
    accumulator values in the proven range, those that only saturate aside, whose result differs
    from exact real arithmetic, `largest` the largest difference in steps of the result; both 0
    where the form is exact. `note` says what else was rounded.
    """

    layer: str
    form: str
    share: float = 0.0
    largest: int = 0
    note: str = ""

    @property
    def exact(self) -> bool:
        """Whether every accumulator value gives the exact result."""
        return self.largest == 0 and not self.note
