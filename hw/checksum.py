"""Checksum lane: one more lane that knows what the lanes' results must add up to, modulo M.

For each group sum over lanes of acc[lane] = sum_k (sum over lanes of w[lane, k]) x[k] + sum of the
biases. The row of sums is reduced modulo M = 2^r - 1 at compile time; the lane computes the right
side in residues and compares it with the residues of the results as they drain. No 2^k is 0 modulo
an odd M, so every single-bit error of a product or an accumulator shows.
Source: linear algorithmic checksums (S0, section 3; Sanity-Check); residue arithmetic with
end-around carry is folklore.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .arith import bipolar, lut_multiply, rom, table
from .config import MODULI, clog2, tree_levels
from .linear_config import LinearConfig
from .site import Site

__all__ = ["ChecksumLane", "residue"]


def residue(m: Module, values: list[tuple[Value, bool]], modulus: int, name: str) -> Signal:
    """The sum of `values`, pairs (value, is signed), modulo 2^r - 1, in 0..modulus - 1.

    Digits of r bits are added and carries come around until one subtraction is enough; a sign bit
    weighs -2^n, a constant modulo M.
    """
    r = modulus.bit_length()
    terms: list[tuple[Value, int]] = []
    for value, is_signed in values:
        n = len(value) - is_signed
        for i in range(0, n, r):
            digit = value[i : min(i + r, n)]
            terms.append((digit, (1 << len(digit)) - 1))
        if is_signed:
            weight = -(1 << n) % modulus
            terms.append((Mux(value[n], weight, 0), weight))
    rank = 0
    while True:
        total: Value = Const(0, 1)
        for term, _ in terms:
            total = total + term
        bound = sum(most for _, most in terms)
        out = Signal(max(1, bound.bit_length()), name=f"{name}_{rank}")
        m.d.comb += out.eq(total)
        if bound < 2 * modulus:
            break
        terms = []
        for i in range(0, len(out), r):
            digit = out[i : i + r]
            terms.append((digit, min((1 << len(digit)) - 1, bound >> i)))
        rank += 1
    result = Signal(r, name=name)
    m.d.comb += result.eq(Mux(out >= modulus, out - modulus, out))
    return result


class ChecksumLane(wiring.Component):
    """Residue twin of a layer's lanes, with control of its own.

    It keeps its own address: a wrong one in the lanes shows as a mismatch. The
    verdict is `mismatch` two cycles after the group's last word drained (`config.CHECK_CYCLES`).

    Parameters: `config` (with `modulus`), the `site` of its registers.

    Members: `issue`, a step is issued (cycle t; its elements are in `act` in cycle t + 2); `start`,
    it is a window's first; `act`; `drain`, `drain_first`, `drained`: words leaving the lanes, and
    whether they start a group; `mismatch`.
    Raises ValueError for a modulus that is not in `config.MODULI`.
    """

    def __init__(self, config: LinearConfig, site: Site) -> None:
        if config.modulus not in MODULI:
            raise ValueError(f"modulus must be one of {MODULI}, not {config.modulus}")
        self.config, self.site, self.modulus = config, site, config.modulus
        super().__init__(
            {
                "issue": In(1),
                "start": In(1),
                "act": In(config.elements * config.act_bits),
                "drain": In(1),
                "drain_first": In(1),
                "drained": In(config.out_lanes * config.acc_bits),
                "mismatch": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._collect(m, self._predict(m))
        return m

    def _predict(self, m: Module) -> Signal:
        """The residue that the group's results must have, held until it is compared."""
        config, site, modulus = self.config, self.site, self.modulus
        r = modulus.bit_length()
        passes, _, steps, _ = config.weight.shape
        address = site.register(range(max(2, passes * steps)), "address", "checker")
        issued = site.register(1, "issued_1", "checker")
        at = Signal.like(address)
        m.d.comb += at.eq(Mux(self.start, 0, address))
        with m.If(self.issue):
            m.d.sync += address.eq(Mux(at == passes * steps - 1, 0, at + 1))
        # Cycle 1: what is read in cycle 2, when the elements are in `act`.
        row = site.register(range(max(2, passes * steps)), "row_1", "checker")
        m.d.sync += [row.eq(at), issued.eq(self.issue)]
        rows = (config.checksum_rows % modulus).tolist()
        words = table(rows, r)
        weights: Any
        if len(words) == 1:
            weights = Const(words[0], r * config.elements)
            row_2 = Const(0, 1)
        else:
            store = memory.Memory(shape=unsigned(r * config.elements), depth=len(words), init=words)
            m.submodules.row = store
            read = store.read_port(domain="comb")
            weights = site.register(r * config.elements, "weights", "checker")
            row_2 = site.register(range(len(words)), "row_2", "checker")
            m.d.comb += read.addr.eq(row_2)
            m.d.sync += [row_2.eq(row), weights.eq(read.data)]
        # Cycle 2: residues of the elements.
        residues = []
        for i in range(config.elements):
            element = self.act.word_select(i, config.act_bits)
            element = bipolar(element) if config.act_bipolar else element
            x = site.register(r, f"residue_{i}", "checker")
            m.d.sync += x.eq(residue(m, [(element, config.act_signed)], modulus, f"element_{i}"))
            residues.append(x)
        # Cycle 3: products.
        terms: list[Value] = []
        for i, x in enumerate(residues):
            product = site.register(r, f"product_{i}", "checker")
            full = Signal(2 * r, name=f"full_{i}")
            m.d.comb += full.eq(lut_multiply(x, Cat(weights[i * r : (i + 1) * r], 0).as_signed()))
            m.d.sync += product.eq(residue(m, [(full, False)], modulus, f"reduced_{i}"))
            terms.append(product)
        # Cycles 4..: sum by as many ranks as the lanes have, then the accumulator.
        for rank in range(tree_levels(config.simd)):
            sums: list[Value] = []
            for i in range(0, len(terms), config.checksum_adds):
                part = site.register(r, f"sum_{rank}_{i}", "checker")
                group = [(t, False) for t in terms[i : i + config.checksum_adds]]
                m.d.sync += part.eq(residue(m, group, modulus, f"part_{rank}_{i}"))
                sums.append(part)
            terms = sums
        return self._accumulate(m, terms, row, issued, 3 + tree_levels(config.simd))

    def _accumulate(
        self, m: Module, terms: list[Value], row: Signal, issued: Signal, delay: int
    ) -> Signal:
        """acc = (bias at a group's first step, else acc) + terms, modulo M; held at the last."""
        config, site, modulus = self.config, self.site, self.modulus
        passes, _, steps, _ = config.weight.shape
        r = modulus.bit_length()
        # Marks travel beside the data, from cycle 1 to the accumulator's.
        marks: dict[str, Value] = {
            "valid": issued,
            "first": rom(m, [i % steps == 0 for i in range(passes * steps)], row, 1, "is_first"),
            "last": rom(
                m, [i % steps == steps - 1 for i in range(passes * steps)], row, 1, "is_last"
            ),
            "start": row == 0,
        }
        for rank in range(delay):
            for name, source in marks.items():
                stage = site.register(1, f"{name}_{rank + 2}", "checker")
                m.d.sync += stage.eq(source)
                marks[name] = stage
        group = Signal(clog2(passes))
        if passes > 1:
            count = site.register(clog2(passes), "count", "checker")
            m.d.comb += group.eq(Mux(marks["start"], 0, Mux(marks["first"], count + 1, count)))
            with m.If(marks["valid"]):
                m.d.sync += count.eq(group)
        biases = (config.bias.sum(axis=1) % modulus).tolist()
        bias = rom(m, biases, group, r, "bias")
        acc, held = site.register(r, "acc", "checker"), site.register(r, "held", "checker")
        done = site.register(1, "done", "checker")
        base = Mux(marks["first"], bias, acc)
        with m.If(marks["valid"]):
            m.d.sync += acc.eq(
                residue(m, [(term, False) for term in (base, *terms)], modulus, "total")
            )
        m.d.sync += done.eq(marks["valid"] & marks["last"])
        with m.If(done):
            m.d.sync += held.eq(acc)
        return held

    def _collect(self, m: Module, predicted: Signal) -> None:
        """The residue of the drained words, summed over the group, against the prediction."""
        config, site, modulus = self.config, self.site, self.modulus
        r = modulus.bit_length()
        drain, first = (
            site.register(1, "drain_1", "checker"),
            site.register(1, "drain_first_1", "checker"),
        )
        m.d.sync += [drain.eq(self.drain), first.eq(self.drain_first)]
        parts: list[tuple[Value, bool]] = []
        for i in range(config.out_lanes):
            word = self.drained.word_select(i, config.acc_bits)
            part = site.register(r, f"drained_{i}", "checker")
            m.d.sync += part.eq(residue(m, [(word, True)], modulus, f"word_{i}"))
            parts.append((part, False))
        total = site.register(r, "drained_sum", "checker")
        base = Mux(first, 0, total)
        with m.If(drain):
            m.d.sync += total.eq(residue(m, [(base, False), *parts], modulus, "collected"))
        m.d.comb += self.mismatch.eq(total != predicted)
