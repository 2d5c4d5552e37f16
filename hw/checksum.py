"""Checksum lane: one more lane that knows what the lanes' results must add up to.

For each group sum over lanes of acc[lane] = sum_k (sum over lanes of w[lane, k]) x[k] + sum of the
biases. The row of sums is known at compile time; the lane computes the right side, modulo
M = 2^r - 1 or exactly, and compares it with the results as they drain. No 2^k is 0 modulo an odd M,
so every single-bit error of a product or an accumulator shows.
Source: linear algorithmic checksums (S0, section 3; Sanity-Check).
"""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .arith import bipolar, lut_multiply
from .config import MODULI, clog2
from .linear_config import LinearConfig
from .residue import Term, product, residue, summed
from .site import Site

__all__ = ["ChecksumLane"]


class ChecksumLane(wiring.Component):
    """Twin of a layer's lanes for the filter form, with control of its own.

    It counts its own addresses: a wrong one in the lanes shows as a mismatch. Rows and biases are
    negated, so that prediction and results add up to 0. The verdict is `mismatch` two cycles after
    the group's last word drained (`config.CHECK_CYCLES`).

    Parameters: `config` (with `modulus`), the `site` of its registers.

    Members: `issue`, a step is issued (cycle t; its elements are in `act` in cycle t + 2); `start`,
    it is a window's first; `act`; `drain`, `drain_first`, `drained`: words leaving the lanes, and
    whether they start a group; `mismatch`. Where groups are computed again (`config.retry`) and a
    window takes several passes: `rewind`, the next step is the first of pass `again_pass`.
    Raises ValueError for a modulus that is neither in `config.MODULI` nor "exact".
    """

    def __init__(self, config: LinearConfig, site: Site) -> None:
        if config.modulus not in (*MODULI, "exact"):
            raise ValueError(f"modulus must be exact or one of {MODULI}, not {config.modulus}")
        self.config, self.site, self.check = config, site, config.filter_check
        passes = len(config.turns)
        self.rewinds = config.retry > 0 and passes > 1
        again = {"rewind": In(1), "again_pass": In(clog2(passes))} if self.rewinds else {}
        super().__init__(
            {
                **again,
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

    def _sum(self, m: Module, values: list[Term], name: str) -> Value:
        return summed(m, values, self.check.modulus, self.check.sum_bits, name)

    def _register(self, bits: int, name: str) -> Signal:
        return self.site.register(unsigned(bits), name, "checker")

    def _later(self, m: Module, value: Value, name: str) -> Signal:
        """`value` a cycle later."""
        stage = self._register(len(value), name)
        m.d.sync += stage.eq(value)
        return stage

    def _predict(self, m: Module) -> Value:
        """Minus the sum that the group's results must have, when its first word is collected."""
        check, signs = self.check, self.check.modulus is None
        weights, bias, first, valid = self._row(m)
        # Cycle 2: the elements; unless residues are held first, they are multiplied at once.
        elements = self._elements(m)
        terms: list[Term] = []
        for i in range(0, len(elements), check.products):
            parts: list[Term] = [
                (self._product(m, x, w, f"product_{i + k}"), signs)
                for k, (x, w) in enumerate(
                    zip(elements[i : i + check.products], weights[i:], strict=False)
                )
            ]
            term = self._register(check.product_bits, f"product_{i // check.products}")
            value = parts[0][0] if len(parts) == 1 else self._sum(m, parts, f"products_{i}")
            # Cycle 3: products; none of a step that was not issued.
            m.d.sync += term.eq(Mux(valid, value, 0))
            terms.append((term, signs))
        biases: list[Term] = []
        if bias is not None:
            held = self._register(len(bias), "bias_3")
            m.d.sync += held.eq(Mux(valid, bias, 0))
            biases.append((held, signs))
        marks = None if first is None else self._later(m, first & valid, "first_3")
        # Cycles 4..: sums, then the accumulator.
        for rank, count in enumerate(check.sums):
            terms = [
                (
                    self._later(
                        m,
                        self._sum(m, terms[i * check.adds : (i + 1) * check.adds], f"s{rank}_{i}"),
                        f"sum_{rank}_{i}",
                    ),
                    signs,
                )
                for i in range(count)
            ]
            biases = [(self._later(m, value, f"bias_{rank + 4}"), s) for value, s in biases]
            marks = None if marks is None else self._later(m, marks, f"first_{rank + 4}")
        return self._accumulate(m, terms + biases, marks)

    def _row(self, m: Module) -> tuple[list[Value], Value | None, Value | None, Value]:
        """The step's weights, its bias and whether it is a group's first, and whether it is one.

        They come with the elements, or with their residues. No mark where every step is the first.
        """
        check, config = self.check, self.config
        issue, start = self.issue, self.start
        if check.reduces:
            issue = self._later(m, issue, "issue_1")
            start = self._later(m, start, "start_1") if check.words > 1 else start
        # Cycle 1: the address.
        issued = self._later(m, issue, "issued")
        valid = self._later(m, issued, "valid")
        words = self._words()
        bits = check.row_bits + check.marked
        row: Value
        if check.words == 1:
            row = Const(words[0], bits)
        else:
            address = self._register(clog2(check.words), "address")
            with m.If(issue):
                m.d.sync += address.eq(Mux(start, 0, address + 1))
            if self.rewinds:
                rewind, again = self.rewind, self.again_pass
                if check.reduces:
                    rewind = self._later(m, rewind, "rewind_1")
                    again = self._later(m, again, "again_1")
                with m.If(rewind):
                    m.d.sync += address.eq(again * config.steps - 1)
            store = memory.Memory(shape=unsigned(bits), depth=check.words, init=words)
            m.submodules.row = store
            read = store.read_port(domain="comb")
            m.d.comb += read.addr.eq(address)
            row = self._later(m, read.data, "row")
        size = check.weight_bits
        weights = [row[i * size : (i + 1) * size] for i in range(len(check.used))]
        at = size * len(check.used)
        bias = row[at : at + check.bias_bits] if check.biased else None
        return weights, bias, row[-1] if check.marked else None, valid

    def _words(self) -> list[int]:
        """Words of the row memory: weights, bias where groups differ, mark of a group's first."""
        check, steps = self.check, self.config.steps
        words = []
        for index, row in enumerate(check.rows.tolist()):
            word, at = 0, 0
            for value in row:
                word |= (value & ((1 << check.weight_bits) - 1)) << at
                at += check.weight_bits
            first = index % steps == 0
            if check.biased:
                bias = check.biases[index // steps] if first else 0
                word |= (bias & ((1 << check.bias_bits) - 1)) << at
                at += check.bias_bits
            words.append(word | (first << at if check.marked else 0))
        return words

    def _elements(self, m: Module) -> list[Value]:
        """The elements that any word weighs: as they are, or their residues."""
        config, modulus = self.config, self.check.modulus
        found: list[Value] = []
        for i in self.check.used:
            element = self.act.word_select(i, config.act_bits)
            element = bipolar(element) if config.act_bipolar else element
            signs = config.act_signed or config.act_bipolar
            if modulus is None:
                found.append(element.as_signed() if signs else element)
                continue
            value: Value = residue(m, [(element, signs)], modulus, f"element_{i}")
            found.append(self._later(m, value, f"residue_{i}") if self.check.reduces else value)
        return found

    def _product(self, m: Module, x: Value, weight: Value, name: str) -> Value:
        modulus = self.check.modulus
        if modulus is not None:
            return product(m, x, weight, modulus, name)
        full = Signal(signed(self.check.product_bits), name=name)
        blocks = self.config.multiplier in ("dsp", "dsp2") or self.check.words == 1
        weight = weight.as_signed()
        m.d.comb += full.eq(x * weight if blocks else lut_multiply(x, weight))
        return full

    def _accumulate(self, m: Module, terms: list[Term], first: Value | None) -> Value:
        """acc = (bias at a group's first step, else acc) + terms; held while it is awaited."""
        check, signs = self.check, self.check.modulus is None
        acc = self._register(check.sum_bits, "acc")
        base: Value = Const(0, check.sum_bits)
        if not check.biased:
            base = Const(check.biases[0] & ((1 << check.sum_bits) - 1), check.sum_bits)
        if first is not None:
            base = Mux(first, base, acc)
        m.d.sync += acc.eq(self._sum(m, [(base, signs), *terms], "total"))
        predicted: Value = acc
        for rank in range(check.held):
            predicted = self._later(m, predicted, f"held_{rank}")
        return predicted

    def _collect(self, m: Module, predicted: Value) -> None:
        """The drained words, summed over the group, on top of the prediction: 0 if all is right."""
        config, check = self.config, self.check
        signs = check.modulus is None
        drain = self._later(m, self.drain, "drain_1")
        first = self._later(m, self.drain_first, "drain_first_1")
        words = [
            (self.drained.word_select(i, config.acc_bits), True) for i in range(config.out_lanes)
        ]
        parts: list[Term] = []
        for i in range(check.parts):
            group = words[i * check.lanes_per_part : (i + 1) * check.lanes_per_part]
            value = summed(m, group, check.modulus, check.part_bits, f"word_{i}")
            parts.append((self._later(m, value, f"drained_{i}"), signs))
        total = self._register(check.sum_bits, "drained_sum")
        base = Mux(first, predicted, total)
        with m.If(drain):
            m.d.sync += total.eq(self._sum(m, [(base, signs), *parts], "collected"))
        m.d.comb += self.mismatch.eq(total != 0)
