"""Registers as the cost model counts them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = [
    "ALARM_BITS",
    "REPLICAS",
    "Register",
    "ff_bits",
    "posted",
    "replicated",
    "results",
]

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


def posted(found: Iterable[Register], post: str) -> Iterator[Register]:
    """Registers behind the accumulators as `post` has them; `count` tells how many there are."""
    for register in found:
        if post == "tmr":
            register.count *= REPLICAS
        yield register
        if post == "parity":
            yield Register("parity", "checker", 1 if register.bits else 0, register.count)
        if post == "dup":
            yield Register("twin", "checker", register.bits, register.count)


def results(found: Iterable[Register], post: str, codes: bool) -> Iterator[Register]:
    """Registers of results; those that leave with a code are compared by their reader."""
    yield from posted(found, "none" if codes and post in ("parity", "dup") else post)


def ff_bits(found: Iterable[Register]) -> int:
    """Bits of registers."""
    return sum(register.bits * register.count for register in found)
