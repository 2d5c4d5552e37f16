"""Registers as the cost model counts them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["ALARM_BITS", "REPLICAS", "Register", "ff_bits", "replicated"]

ALARM_BITS = 2
"""Bits that count the frames an alarm flags."""


@dataclass(slots=True)  # thousands a second: freezing would double their time
class Register:
    """`count` registers of `bits` bits each."""

    name: str
    role: str
    bits: int
    count: int = 1

    @property
    def total(self) -> int:
        """Bits of all of them."""
        return self.bits * self.count


REPLICAS = 3
"""Copies of a register in triple modular redundancy."""


def replicated(found: Iterable[Register], control: str) -> Iterator[Register]:
    """Registers as `control` has them: with "tmr" those of control three times."""
    for register in found:
        if control == "tmr" and register.role == "control":
            register.count *= REPLICAS
        yield register


def ff_bits(found: Iterable[Register]) -> int:
    """Bits of registers."""
    return sum(register.bits * register.count for register in found)
