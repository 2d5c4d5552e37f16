"""LUT networks kept small while they are built.

Constants, equal inputs, buffers and inverters are folded into the LUT that reads them; LUTs of the
same function (or its complement) of the same inputs are one; a LUT read once is merged into its
reader where the two have three inputs together; what nothing reads is dropped.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .gates import Network

__all__ = ["Builder"]

Lut = tuple[int, int, int, int]

#: Value of input k in each of the 8 rows of a table.
COLUMNS = (0xAA, 0xCC, 0xF0)


def _compose(table: int, columns: list[int]) -> int:
    """The table of `table`'s function of inputs whose own tables are `columns`."""
    result = 0
    for row in range(1 << len(columns)):
        if table >> row & 1:
            term = 0xFF
            for k, column in enumerate(columns):
                term &= column if row >> k & 1 else ~column
            result |= term
    return result & 0xFF


def _depends(table: int, k: int) -> bool:
    shift = 1 << k
    return bool((table >> shift ^ table) & ~COLUMNS[k] & 0xFF)


class Builder:
    """LUTs over `sources` nodes, numbered from there on; literals are 2 * node + inverted."""

    def __init__(self, sources: int) -> None:
        self.sources = sources
        self.luts: list[Lut] = []
        self.known: dict[Lut, int] = {}

    def lut(self, table: int, inputs: list[int]) -> int:
        """Literal of the function `table` of up to three literals."""
        nodes = sorted({literal >> 1 for literal in inputs} - {0})
        place = {node: COLUMNS[k] for k, node in enumerate(nodes)} | {0: 0}
        columns = [place[lit >> 1] ^ (0xFF if lit & 1 else 0) for lit in inputs]
        return self._canonical(_compose(table, columns), nodes)

    def _canonical(self, table: int, nodes: list[int]) -> int:
        """Literal of an 8-row table over sorted distinct nodes."""
        used = [k for k in range(len(nodes)) if _depends(table, k)]
        if len(used) < len(nodes):
            table = _compose_rows(table, used)
            nodes = [nodes[k] for k in used]
        inverted = table & 1
        if inverted:
            table ^= 0xFF
        if not nodes:
            return inverted
        if len(nodes) == 1:
            return 2 * nodes[0] + inverted
        key = (table, nodes[0], nodes[1], nodes[2] if len(nodes) > 2 else 0)
        node = self.known.get(key)
        if node is None:
            node = self.known[key] = self.sources + len(self.luts)
            self.luts.append(key)
        return 2 * node + inverted

    def finished(self, network: Network) -> Network:
        """The network without LUTs that nothing reads, small ones merged into their readers."""
        merged = _merged(network)
        return _pruned(merged)


def _compose_rows(table: int, used: list[int]) -> int:
    """The table with inputs `used` moved to the front; it depends on no other."""
    result = 0
    for row in range(8):
        source = sum((row >> i & 1) << k for i, k in enumerate(used))
        result |= (table >> source & 1) << row
    return result


def _merged(network: Network) -> Network:
    """A LUT read by one LUT only becomes part of it where three inputs are enough."""
    first, luts = network.first_lut, network.luts
    readers = [0] * (first + len(luts))
    for _, *inputs in luts:
        for node in inputs:
            readers[node] += 1
    for root in network.roots():
        readers[root >> 1] += 2  # must stay
    builder = Builder(first)
    literal = [2 * node for node in range(first)]
    own: list[Lut] = []  # each LUT as it is now, over new nodes, before it is canonical
    for table, *inputs in luts:
        table, nodes = _merge(table, [node for node in inputs if node], readers, first, own)
        a, b, c = [*nodes, 0, 0, 0][:3]
        own.append((table, a, b, c))
    keep = _needed(network, own)
    for number, (table, *inputs) in enumerate(own):
        nodes = [node for node in inputs if node]
        if keep[first + number]:
            literal.append(builder.lut(table, [literal[node] for node in nodes]))
        else:
            literal.append(0)
    return _renamed(network, builder.luts, literal)


def _merge(
    table: int, nodes: list[int], readers: list[int], first: int, own: list[Lut]
) -> tuple[int, list[int]]:
    """Absorb fan-ins that only this LUT reads, while the inputs stay three."""
    for node in sorted(nodes, reverse=True):
        if node < first or readers[node] != 1:
            continue
        inner_table, *inner = own[node - first]
        inner = [n for n in inner if n]
        union = sorted({n for n in nodes if n != node} | set(inner))
        if len(union) > 3:
            continue
        place = {n: COLUMNS[k] for k, n in enumerate(union)}
        value = _compose(inner_table & ((1 << (1 << len(inner))) - 1), [place[n] for n in inner])
        columns = [value if n == node else place[n] for n in nodes]
        table = _compose(table & ((1 << (1 << len(nodes))) - 1), columns)
        nodes = union
    return table, nodes


def _needed(network: Network, own: list[Lut]) -> list[bool]:
    first = network.first_lut
    needed = [False] * (first + len(own))
    for literal in network.roots():
        needed[literal >> 1] = True
    for number in range(len(own) - 1, -1, -1):
        if needed[first + number]:
            for node in own[number][1:]:
                needed[node] = True
    return needed


def _pruned(network: Network) -> Network:
    first = network.first_lut
    needed = _needed(network, network.luts)
    literal = [2 * node for node in range(first)]
    luts: list[Lut] = []
    for number, (table, *inputs) in enumerate(network.luts):
        if needed[first + number]:
            a, b, c = (literal[node] >> 1 for node in inputs)
            literal.append(2 * (first + len(luts)))
            luts.append((table, a, b, c))
        else:
            literal.append(0)
    return _renamed(network, luts, literal)


def _renamed(network: Network, luts: list[Lut], literal: list[int]) -> Network:
    """The network over other LUTs; `literal` of each old node."""

    def new(old: int) -> int:
        return literal[old >> 1] ^ (old & 1)

    def all_new(old: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(map(new, old))

    memories = [
        dataclasses.replace(
            memory,
            reads=tuple(dataclasses.replace(r, address=all_new(r.address)) for r in memory.reads),
            writes=tuple(
                dataclasses.replace(
                    w,
                    address=all_new(w.address),
                    data=all_new(w.data),
                    enable=all_new(w.enable),
                )
                for w in memory.writes
            ),
        )
        for memory in network.memories
    ]
    outputs = {name: [new(b) for b in bits] for name, bits in network.outputs.items()}
    return dataclasses.replace(
        network, luts=luts, next=[new(b) for b in network.next], outputs=outputs, memories=memories
    )
