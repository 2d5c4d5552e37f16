"""C++ of a LUT network over 512 lanes: straight-line functions and the tables of the driver.

Functions have about 1,000 LUTs, so that compile time and memory stay low. A word read from a memory
may depend on LUTs and feed others: LUTs are divided into stages, and the read ports of a stage are
served (engines/bitparallel_memories.h) between its functions and those of the next.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ..quant.errors import InputError
from .gates import Memory, Network, Read

__all__ = ["Code", "emit"]

CHUNK = 1000
CHUNKS_A_FILE = 4


@dataclass(frozen=True)
class Code:
    """`parts` C++ texts of the functions, `tables` the header of the driver."""

    parts: tuple[str, ...]
    tables: str


def emit(network: Network) -> Code:
    """The C++ of a network."""
    return _Emitter(network).code()


class _Emitter:
    def __init__(self, network: Network) -> None:
        self.net = network
        self.slots = 0
        self.where: dict[int, str] = {0: "zero"}
        self.where |= {1 + i: f"q[{i}]" for i in range(network.state)}
        self.stores: dict[int, list[tuple[str, int]]] = {}
        self.inputs = [self._sources(nodes) for nodes in network.inputs.values()]
        self.reads = [[self._read(m, r) for r in m.reads] for m in network.memories]
        self.outputs = [self._sink(bits) for bits in network.outputs.values()]
        self.writes = [self._writes(m) for m in network.memories]
        for i, literal in enumerate(network.next):
            self._store(f"d[{i}]", literal)
        self.stage, self.read_stage = self._stages()

    def code(self) -> Code:
        """All texts."""
        functions = [self._function(n, nodes) for n, (_, nodes) in enumerate(self.chunks)]
        copies = self._copies(len(functions))
        functions += [text for _, text in copies]
        stages = [stage for stage, _ in self.chunks] + [stage for stage, _ in copies]
        head = '#include "bitparallel_lanes.h"\n' + self._formulas()
        files = [functions[i : i + CHUNKS_A_FILE] for i in range(0, len(functions), CHUNKS_A_FILE)]
        parts = tuple(head + "".join(texts) for texts in files)
        return Code(parts, self._tables(stages))

    # -------------------------------------------------------------------------------- layout

    def _slot(self, count: int) -> int:
        first = self.slots
        self.slots += count
        return first

    def _sources(self, nodes: list[int]) -> int:
        first = self._slot(len(nodes))
        self.where |= {node: f"w[{first + i}]" for i, node in enumerate(nodes)}
        return first

    def _store(self, place: str, literal: int) -> None:
        self.stores.setdefault(literal >> 1, []).append((place, literal & 1))

    def _sink(self, literals: tuple[int, ...] | list[int]) -> int:
        first = self._slot(len(literals))
        for i, literal in enumerate(literals):
            self._store(f"w[{first + i}]", literal)
        return first

    def _read(self, memory: Memory, read: Read) -> tuple[int, int]:
        """First slots of address and data."""
        data = self._sources(list(range(read.data, read.data + memory.width)))
        return self._sink(read.address), data

    def _writes(self, memory: Memory) -> list[tuple[int, int, list[tuple[int, int]]]]:
        """First slots of address and data; (slot, bits) of each distinct enable."""
        rows = []
        for write in memory.writes:
            groups: dict[int, int] = {}
            for i, literal in enumerate(write.enable):
                groups[literal] = groups.get(literal, 0) | 1 << i
            enables = [(self._sink([literal]), bits) for literal, bits in groups.items()]
            rows.append((self._sink(write.address), self._sink(write.data), enables))
        return rows

    # -------------------------------------------------------------------------------- stages

    def _stages(self) -> tuple[list[int], list[list[int]]]:
        """Stage of each node, and of each read port."""
        net = self.net
        ports = [(m, r) for m in net.memories for r in m.reads]
        stage = [0] * (net.first_lut + len(net.luts))
        reads = [0] * len(ports)
        for turn in range(len(ports) + 2):
            for n, (_, a, b, c) in enumerate(net.luts):
                stage[net.first_lut + n] = max(stage[a], stage[b], stage[c])
            new = [max((stage[lit >> 1] for lit in r.address), default=0) for _, r in ports]
            if new == reads and turn:
                break
            reads = new
            for (memory, read), number in zip(ports, reads, strict=True):
                for node in range(read.data, read.data + memory.width):
                    stage[node] = number + 1
        else:
            raise InputError("bit-parallel engine: a memory's address depends on the word read")
        flat = iter(reads)
        return stage, [[next(flat) for _ in m.reads] for m in net.memories]

    def _order(self) -> list[int]:
        """LUT nodes depth first from the next state: neighbours in time are neighbours in code."""
        net, seen, order = self.net, set(range(self.net.first_lut)), list[int]()
        for root in net.roots():
            stack = [root >> 1]
            while stack:
                node = stack[-1]
                if node in seen:
                    stack.pop()
                    continue
                missing = [x for x in net.luts[node - net.first_lut][1:] if x not in seen]
                if missing:
                    stack += reversed(missing)
                else:
                    seen.add(node)
                    order.append(stack.pop())
        return order

    @functools.cached_property
    def chunks(self) -> list[tuple[int, list[int]]]:
        """(stage, LUT nodes) of each function."""
        order, chunks = self._order(), []
        for stage in range(max(self.stage, default=0) + 1):
            nodes = [node for node in order if self.stage[node] == stage]
            chunks += [(stage, nodes[i : i + CHUNK]) for i in range(0, len(nodes), CHUNK)]
        return chunks

    # ---------------------------------------------------------------------------------- text

    @functools.cached_property
    def _chunk_of(self) -> dict[int, int]:
        return {node: n for n, (_, nodes) in enumerate(self.chunks) for node in nodes}

    @functools.cached_property
    def _far(self) -> set[int]:
        """LUTs that another function reads."""
        net, chunk = self.net, self._chunk_of
        return {
            x
            for node, at in chunk.items()
            for x in net.luts[node - net.first_lut][1:]
            if x >= net.first_lut and chunk[x] != at
        }

    def _function(self, n: int, nodes: list[int]) -> str:
        net, here = self.net, set(nodes)
        lines = [_signature(n) + " {", "V unlike = *differs;"]
        for node in nodes:
            table, *inputs = net.luts[node - net.first_lut]
            used = [x for x in inputs if x]
            names = [f"v{x}" if x in here else self._place(x) for x in used]
            names += [names[0]] * (3 - len(names))
            lines.append(f"const V v{node} = T({table}, {', '.join(names)});")
            lines += self._stored(node, f"v{node}")
            if node in self._far:
                lines.append(f"{self._place(node)} = v{node};")
        return "\n".join(lines) + "\n*differs = unlike;\n}\n"

    def _stored(self, node: int, name: str) -> list[str]:
        """Lines that store a value where it is wanted; next state is compared on the way."""
        lines = []
        for place, inverted in self.stores.get(node, ()):
            lines.append(f"{place} = " + (f"NOT({name});" if inverted else f"{name};"))
            if place.startswith("d["):
                compare = "DIFFERS_NOT" if inverted else "DIFFERS"
                lines.append(f"unlike = {compare}(unlike, {name}, masks{place[1:]});")
        return lines

    def _place(self, node: int) -> str:
        if node not in self.where:
            self.where[node] = f"w[{self._slot(1)}]"
        return self.where[node]

    def _copies(self, first: int) -> list[tuple[int, str]]:
        """(stage, function) that store what no LUT makes: constants, inputs, other flip-flops."""
        lines: dict[int, list[str]] = {}
        for node in self.stores:
            if node < self.net.first_lut:
                texts = self._stored(node, self.where[node])
                lines.setdefault(self.stage[node], []).extend(texts)
        copies: list[tuple[int, str]] = []
        for stage, own in sorted(lines.items()):
            for start in range(0, len(own), 4 * CHUNK):
                head = _signature(first + len(copies)) + " {\nconst V zero = {};\n(void)zero;\n"
                text = "\n".join(["V unlike = *differs;", *own[start : start + 4 * CHUNK]])
                copies.append((stage, head + text + "\n*differs = unlike;\n}\n"))
        return copies

    def _formulas(self) -> str:
        tables = sorted({table for table, *_ in self.net.luts})
        rows = [
            f"template <> inline __attribute__((always_inline)) V lut3<{table}>(V a, V b, V c) "
            f"{{ (void)a; (void)b; (void)c; return {_formula(table)}; }}"
            for table in tables
        ]
        guard = "#if !defined(__AVX512F__) || defined(TERCET_PORTABLE)\n"
        return guard + "\n".join(rows) + "\n#endif\n" if rows else ""

    # -------------------------------------------------------------------------------- tables

    def _tables(self, stages: list[int]) -> str:
        """Declarations and tables; `stages` of the functions."""
        net = self.net
        lines = ['#include "bitparallel_lanes.h"']
        lines += [_signature(n) + ";" for n in range(len(stages))]
        rows = {
            "STATE_BITS": net.state,
            "SLOTS": self.slots,
            "IN_BITS": sum(map(len, net.inputs.values())),
            "OUT_BITS": sum(map(len, net.outputs.values())),
            "FIRST_OUT": self.outputs[0] if self.outputs else 0,
        }
        lines += [f"constexpr uint32_t {name} = {value};" for name, value in rows.items()]
        init = [
            sum(bit << k for k, bit in enumerate(net.init[i : i + 8]))
            for i in range(0, net.state, 8)
        ]
        lines.append("static const uint8_t INIT[] = {" + ", ".join(map(str, init)) + "};")
        lines.append("#define TERCET_MEMORIES(X) " + " ".join(self._memory_rows()))
        lines.append("#define TERCET_READS(X) " + " ".join(self._read_rows()))
        lines += self._write_lines()
        lines.append(f"#define TERCET_TARGETS {', '.join(map(str, net.targets))}")
        last = max((stage for own in self.read_stage for stage in own), default=-1)
        steps = []
        for stage in range(max([last, *stages]) + 1):
            steps += [f"P({n})" for n, own in enumerate(stages) if own == stage]
            if stage <= last:
                steps.append(f"R({stage})")
        lines.append("#define TERCET_STEPS(P, R) " + " ".join(steps))
        return "\n".join(lines) + "\n"

    def _memory_rows(self) -> list[str]:
        return [f"X({m.width}, {m.depth}, {m.offset})" for m in self.net.memories]

    def _read_rows(self) -> list[str]:
        """X(stage, group, memory, address slot, address bits, data slot); ports of a group have
        the same address."""
        groups: dict[tuple[int, ...], int] = {}
        rows = []
        for m, memory in enumerate(self.net.memories):
            for r, read in enumerate(memory.reads):
                group = groups.setdefault(read.address, len(groups))
                address, data = self.reads[m][r]
                row = (self.read_stage[m][r], group, m, address, len(read.address), data)
                rows.append((row[:3], f"X({', '.join(map(str, row))})"))
        return [text for _, text in sorted(rows)]

    def _write_lines(self) -> list[str]:
        """X(memory, address slot, address bits, data slot, first enable, enables); X(slot, first
        word of its mask) of each enable; the masks of the bits that they enable."""
        writes, enables, masks = list[str](), list[str](), list[int]()
        for m, memory in enumerate(self.net.memories):
            for write, (address, data, groups) in zip(memory.writes, self.writes[m], strict=True):
                row = (m, address, len(write.address), data, len(enables), len(groups))
                writes.append(f"X({', '.join(map(str, row))})")
                for slot, bits in groups:
                    enables.append(f"X({slot}, {len(masks)})")
                    masks += [bits >> i & 2**64 - 1 for i in range(0, memory.width, 64)]
        return [
            "#define TERCET_WRITES(X) " + " ".join(writes),
            "#define TERCET_ENABLES(X) " + " ".join(enables),
            "static const uint64_t MASKS[] = {"
            + ", ".join(f"0x{m:x}" for m in masks or [0])
            + "};",
        ]


def _signature(number: int) -> str:
    return (
        f"void part_{number}(const V* __restrict q, V* __restrict d, V* __restrict w, "
        "const int64_t* __restrict masks, V* __restrict differs)"
    )


@functools.cache
def _formulas() -> dict[int, str]:
    """A cheap C expression for every function of a, b, c."""
    best = {
        0xAA: ("a", 0),
        0xCC: ("b", 0),
        0xF0: ("c", 0),
        0: ("(a ^ a)", 1),
        0xFF: ("~(a ^ a)", 2),
    }
    while len(best) < 256 or True:
        changed = False
        known = sorted(best.items(), key=lambda item: item[1][1])
        for one, (text, cost) in known:
            for table, new in ((one ^ 0xFF, f"~{text}"),):
                if table not in best or best[table][1] > cost + 1:
                    best[table], changed = (new, cost + 1), True
            for two, (other, more) in known:
                for sign, table in (("&", one & two), ("|", one | two), ("^", one ^ two)):
                    total = cost + more + 1
                    if table not in best or best[table][1] > total:
                        best[table], changed = (f"({text} {sign} {other})", total), True
        if not changed:
            return {table: text for table, (text, _) in best.items()}
    raise AssertionError


def _formula(table: int) -> str:
    return _formulas()[table]
