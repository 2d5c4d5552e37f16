"""Does the redundancy survive synthesis? Every voter bit is traced in the mapped netlist.

A voter bit is *found* if its three inputs come from three distinct storage cells, each through
nothing but inverters or buffers, and if the three cells' input cones are pairwise disjoint. A cone
is the logic between the cell's inputs (data, enable, set and reset; not the clock) and the first
flip-flop, memory, multiplier with registers, primary input, voter or fan-out point. A *fan-out
point* is one signal that the Verilog itself hands to all three replicas; what lies before it is
outside the protected sphere. Three signals in the Verilog that synthesis made one are not.
Counting flip-flops would not do: three merged incrementers left all 24 of them in place.
Where the same replicas have three voters, no two replicas may reload a bit of the same voter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from ..sim.manifest import Voter
from .netlist import Bit, Cell, Netlist
from .targets import Family
from .yosys import run

__all__ = ["Redundancy", "Reference", "check", "elaborate"]

_PORTS = ("a", "b", "c")
_SHOWN = 8


@dataclass(frozen=True)
class Reference:
    """The Verilog before mapping: `rtl` as written, `optimised` to know which bits are constant."""

    rtl: Netlist
    optimised: Netlist


def elaborate(verilog: str, top: str, *, workdir: Path) -> Reference:
    """Read `verilog` (a name inside `workdir`) flat and unmapped; InputError if Yosys refuses."""
    commands = [
        f"read_verilog -sv {verilog}",
        f"hierarchy -check -top {top}",
        "proc -noopt",
        "setattr -mod -unset keep_hierarchy",
        "flatten",
        "write_json -noscopeinfo rtl.json",
        "opt -full",
        "memory -nomap",
        "opt -full",
        "write_json -noscopeinfo optimised.json",
    ]
    run(commands, workdir=workdir, name="elaborate")
    files = [workdir / name for name in ("rtl.json", "optimised.json")]
    rtl, optimised = (Netlist.load(path, top) for path in files)
    for path in files:
        path.unlink()
    return Reference(rtl, optimised)


@dataclass
class Redundancy:
    """The result for one voter: bits `expected` and `found`, bits that are constant by design."""

    path: str
    expected: int
    found: int = 0
    constant: list[int] = field(default_factory=list)
    fanout: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The record for synth_<target>.json; the first few problems only."""
        return {**vars(self), "problems": self.problems[:_SHOWN]}


def check(
    netlist: Netlist, voters: Sequence[Voter], reference: Reference, family: Family
) -> dict[str, Any]:
    """Trace every bit of every voter; `netlist` is mapped and flat, of the given family.

    Returns {expected, found, constant, voters: [{path, expected, found, constant, fanout,
    problems}]}. Bits that are constant in the Verilog as well are not expected and are listed.
    """
    tracer = _Tracer(netlist, voters, family)
    results = [tracer.check(voter, reference) for voter in voters]
    return {
        "expected": sum(result.expected for result in results),
        "found": sum(result.found for result in results),
        "constant": sum(len(result.constant) for result in results),
        "voters": [result.to_json() for result in results],
    }


class _Problem(Exception):
    """Why a voter bit is not protected."""


@dataclass(frozen=True)
class _Source:
    """A replica's storage cell and the inverters between it and the voter."""

    cell: Cell
    path: frozenset[Cell]


class _Tracer:
    def __init__(self, netlist: Netlist, voters: Sequence[Voter], family: Family) -> None:
        self.netlist, self.family = netlist, family
        self.siblings = Counter(voter.replicas for voter in voters)
        self.voted: frozenset[Bit] = frozenset(
            bit
            for voter in voters
            for bit in netlist.net(f"{voter.path}.y")
            if isinstance(bit, int)
        )
        prefixes = tuple(f"{voter.path}." for voter in voters)
        self.voter_cells = frozenset(
            cell for cell in netlist.cells if prefixes and cell.name.startswith(prefixes)
        )

    def check(self, voter: Voter, reference: Reference) -> Redundancy:
        result = Redundancy(voter.path, voter.width)
        if len(voter.replicas) != 3:
            result.problems.append(f"has {len(voter.replicas)} replicas, not three")
            return result
        fanout, result.fanout, merged = self._fanout(voter, reference.rtl)
        result.problems += merged
        ports = [self.netlist.net(f"{voter.path}.{port}") for port in _PORTS]
        outputs = self.netlist.net(f"{voter.path}.y")
        if any(len(bits) != voter.width for bits in (*ports, outputs)):
            result.problems.append(f"no voter of {voter.width} bits in the netlist")
            return result
        for index in range(voter.width):
            bits = [port[index] for port in ports]
            try:
                if self._is_constant(bits, voter, index, reference.optimised):
                    result.constant.append(index)
                    result.expected -= 1
                    continue
                sources = [self._source(bit) for bit in bits]
                self._check_vote(outputs[index], bits)
                self._check_cones(sources, fanout)
                if self.siblings[voter.replicas] > 1:
                    self._check_reloads(sources, fanout)
            except _Problem as problem:
                result.problems.append(f"bit {index}: {problem}")
            else:
                result.found += not merged
        return result

    def _fanout(self, voter: Voter, rtl: Netlist) -> tuple[frozenset[Bit], list[str], list[str]]:
        """Fan-out points of the replicas (mapped bits, names) and problems: what was merged."""
        shared: dict[Bit, str] = {}
        suspects: list[tuple[str, tuple[Bit, ...]]] = []
        for name, written, mapped in self._signals(voter, rtl):
            if len(set(written)) == 1 and len(set(mapped)) == 1:
                shared.setdefault(mapped[0], name)
            elif len(set(written)) == 3:
                suspects.append((name, mapped))
        # A signal that optimisation reduced to a fan-out point or a voted bit is not merged logic.
        merged = {name for name, bits in suspects if self._meet(bits, self.voted.union(shared))}
        problems = [f"synthesis merged the replicas' signals {name}" for name in sorted(merged)]
        return frozenset(shared), sorted(set(shared.values())), problems

    def _signals(
        self, voter: Voter, rtl: Netlist
    ) -> Iterator[tuple[str, tuple[Bit, ...], tuple[Bit, ...]]]:
        """Every bit of the replicas' named signals, short names first: (name, written, mapped).

        Signals that synthesis trimmed are left out: they have other names too, or are traced.
        """
        trees = [net.nets_below(path) for net in (rtl, self.netlist) for path in voter.replicas]
        names = set.intersection(*map(set, trees))
        for name in sorted(names, key=lambda name: (len(name), name)):
            nets = [tree[name] for tree in trees]
            if len({len(bits) for bits in nets}) == 1:
                for bits in zip(*nets, strict=True):
                    yield name, bits[:3], bits[3:]

    def _meet(self, bits: Sequence[Bit], known: frozenset[Bit]) -> bool:
        """Whether two of three bits are one signal, constants and `known` ones aside."""
        signals = [bit for bit in bits if self.netlist.constant(bit) is None and bit not in known]
        return len(set(signals)) < len(signals)

    def _is_constant(
        self, bits: Sequence[Bit], voter: Voter, index: int, optimised: Netlist
    ) -> bool:
        """Whether the three bits are constant, here and in the Verilog."""
        if any(self.netlist.constant(bit) is None for bit in bits):
            return False
        nets = [optimised.net(f"{voter.path}.{port}") for port in _PORTS]
        if all(len(net) > index and optimised.constant(net[index]) is not None for net in nets):
            return True
        raise _Problem("constant in the netlist, but not in the Verilog")

    def _check_vote(self, output: Bit, bits: Sequence[Bit]) -> None:
        """The voted bit depends on all three replicas."""
        leaves: set[int] = set()
        todo, seen = [output], set()
        while todo:
            bit = todo.pop()
            cell = self.netlist.driver.get(bit) if isinstance(bit, int) else None
            if bit in bits or cell is None or self._stores(cell):
                leaves.update([bit] if isinstance(bit, int) else [])
            elif cell not in seen:
                seen.add(cell)
                todo.extend(cell.input_bits())
        if not leaves >= set(bits):
            raise _Problem("the voter's output does not depend on all three replicas")

    def _source(self, bit: Bit) -> _Source:
        """Follow a voter input through inverters and buffers to the cell that stores it."""
        path: set[Cell] = set()
        while True:
            cell = self.netlist.driver.get(bit) if isinstance(bit, int) else None
            if cell is None:
                raise _Problem("a replica is a primary input or a constant")
            if self._stores(cell):
                return _Source(cell, frozenset(path))
            inputs = set(cell.input_bits())
            if len(inputs) != 1 or cell in path:
                raise _Problem(f"a replica is logic ({cell.type} {cell.name}), not a register")
            path.add(cell)
            bit = inputs.pop()

    def _check_cones(self, sources: Sequence[_Source], fanout: frozenset[Bit]) -> None:
        for one, other in combinations(sources, 2):
            if one.cell is other.cell:
                raise _Problem(f"two replicas are one {one.cell.type} ({one.cell.name})")
        cones = [self._cone(source.cell, fanout)[0] | source.path for source in sources]
        for first, second in combinations(cones, 2):
            common = first & second
            if common:
                sample = min(common, key=lambda cell: cell.name)
                name = f"{sample.type} {sample.name}"
                raise _Problem(f"two replicas share {len(common)} cells, among them {name}")

    def _check_reloads(self, sources: Sequence[_Source], fanout: frozenset[Bit]) -> None:
        """Each replica reloads the value of a voter of its own."""
        reloaded = [self._cone(source.cell, fanout)[1] for source in sources]
        if not all(reloaded):
            raise _Problem("a replica does not reload a voted value")
        if any(first & second for first, second in combinations(reloaded, 2)):
            raise _Problem("two replicas reload the value of one voter")

    def _cone(self, cell: Cell, fanout: frozenset[Bit]) -> tuple[frozenset[Cell], frozenset[Bit]]:
        """The combinational cells before a storage cell, and the voted bits that they read."""
        cone: set[Cell] = set()
        voted: set[Bit] = set()
        todo = list(cell.input_bits(self.family.clocks))
        while todo:
            bit = todo.pop()
            driver = self.netlist.driver.get(bit)
            if bit in self.voted:
                voted.add(bit)
            if bit in fanout or bit in self.voted or driver is None or driver in cone:
                continue
            if driver in self.voter_cells or self._stores(driver) or not _reads(driver):
                continue
            cone.add(driver)
            todo.extend(driver.input_bits())
        return frozenset(cone), frozenset(voted)

    def _stores(self, cell: Cell) -> bool:
        """Flip-flop, memory, or a multiplier whose clock is connected."""
        family = self.family
        if family.is_flip_flop(cell.type) or family.is_memory(cell.type):
            return True
        clocks = (bits for port, bits in cell.inputs.items() if port.startswith("CLK"))
        return family.is_dsp(cell.type) and any(isinstance(b, int) for bits in clocks for b in bits)


def _reads(cell: Cell) -> bool:
    """Whether a cell has any input; one without is a constant."""
    return any(True for _ in cell.input_bits())
