"""The bits of a design that faults strike, by the register or memory that holds them.

Registers carry role, layer and lane as attributes of the Verilog. A memory gets its role from its
path: `weights` or `rom` hold weights, what lies in a `window` or a `fifo` belongs to that, in a
`checksum` to the checker; every other is a `memory`. Its layer and lane are those of the registers
with which it shares the longest path.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..quant.errors import InputError
from ..quant.ir import IntArray
from ..quant.names import printable
from .faults import MemoryRange
from .lut_init import Luts
from .sites import Register

if TYPE_CHECKING:
    from .testbed import Testbed

__all__ = ["Kind", "Site", "Targets", "memory_role"]

Kind = Literal["register", "memory", "config"]

_MEMORY_ROLES = (
    ("weight", ("weights", "weight", "rom")),
    ("window", ("window",)),
    ("fifo", ("fifo", "skip", "buffer")),
    ("checker", ("checksum", "parity")),
)
_KINDS: dict[Kind, str] = {
    "register": "flip-flop bits",
    "memory": "memory bits",
    "config": "configuration bits",
}


@dataclass(frozen=True)
class Site:
    """A register, a memory, or the INIT of a look-up table: `targets` [bits] numbers its bits in
    the design's `Space`, bit 0 first, a memory's word by word."""

    name: str
    kind: Kind
    role: str
    layer: str
    lane: int | None
    targets: IntArray


class Targets:
    """All sites of a testbed, registers first, and the owner of every target number."""

    def __init__(self, testbed: Testbed) -> None:
        registers, space = testbed.registers, testbed.space
        self.sites = tuple(
            Site(
                register.name,
                "register",
                register.role or "none",
                register.layer or "none",
                register.lane,
                np.array([testbed.numbers[b.cell, b.index] for b in register.bits], np.int64),
            )
            for register in registers
        )
        self.sites += tuple(_memory(row, registers) for row in space.memories)
        self.sites += _tables(testbed)
        self.owner = np.full(space.size, -1, np.int32)
        self.position = np.zeros(space.size, np.int32)
        for number, site in enumerate(self.sites):
            self.owner[site.targets] = number
            self.position[site.targets] = np.arange(len(site.targets))
        if (self.owner < 0).any():
            raise AssertionError("a target belongs to no site")

    def choose(self, kind: Kind, layers: Sequence[str] = (), roles: Sequence[str] = ()) -> IntArray:
        """Target numbers of the sites of one kind, of these layers and roles if some are given.

        Raises InputError, naming what there is, if no site is left.
        """
        left = [site for site in self.sites if site.kind == kind]
        if not left:
            raise InputError(f"zero sites: the design has no {_KINDS[kind]}")
        for key, wanted in (("layer", layers), ("role", roles)):
            there = sorted({getattr(site, key) for site in left})
            for name in wanted:
                if name not in there:
                    raise InputError(
                        f"--{key} {printable(name)}: zero sites; the {_KINDS[kind]} here have "
                        f"{key} {', '.join(map(printable, there))}"
                    )
            left = [site for site in left if not wanted or getattr(site, key) in wanted]
        return np.concatenate([site.targets for site in left])

    def labels(self, key: Literal["role", "layer"]) -> list[str]:
        """Role or layer of each site."""
        return [getattr(site, key) for site in self.sites]


def memory_role(name: str) -> str:
    """Role of a memory of this hierarchical name; the innermost part that tells decides."""
    for part in reversed(name.split(".")):
        words = re.split(r"[^a-z]+", part.lower())
        for role, names in _MEMORY_ROLES:
            if any(word in names for word in words):
                return role
    return "memory"


def _tables(testbed: Testbed) -> tuple[Site, ...]:
    """The look-up tables of a mapped netlist; bit i of a table is its value for inputs i."""
    luts: Luts | None = getattr(testbed, "luts", None)
    first = testbed.space.first_config
    return tuple(
        Site(lut.name, "config", "lut", lut.layer or "none", None, at + np.arange(lut.bits))
        for lut, at in (zip(luts.tables, first + luts.first, strict=False) if luts else ())
    )


def _memory(row: MemoryRange, registers: tuple[Register, ...]) -> Site:
    path = row.name.split(".")
    shared = [_shared(path, register.name.split(".")) for register in registers]
    most = max(shared, default=0)
    near = [r for r, length in zip(registers, shared, strict=True) if length == most]
    layer, lane = "none", None
    if near and (most or len(path) == 1):
        owner = Counter((r.layer or "none", r.lane) for r in near).most_common(1)[0][0]
        layer, lane = owner
    bits = np.arange(row.first, row.first + row.bits)
    return Site(row.name, "memory", memory_role(row.name), layer, lane, bits)


def _shared(one: list[str], other: list[str]) -> int:
    """Number of leading parts that two paths share."""
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
