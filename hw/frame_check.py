"""Checksum of the input form: what a frame's windows held, against what its channels gave.

sum over windows of acc[n] = sum_k w[n, k] S[k] + windows * b[n], with S[k] = sum over windows of
x[k]. Both sides are summed as they pass, modulo M or exactly; at the frame's end a few multipliers
walk through the weights, while the next frame is summed in the other bank.
Source: input checksums of linear layers (ABED; Sanity-Check); resilience.md section 7, form X.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .arith import bipolar, lut_multiply, rom
from .config import clog2
from .linear_config import LinearConfig
from .residue import Term, product, summed
from .site import Site

__all__ = ["FrameCheck"]


class FrameCheck(wiring.Component):
    """Sums of a frame's elements and results, and the check of each frame.

    A check begins when the first word of a frame's last group drains (cycle t); `busy` is set from
    cycle t + 1, and from cycle t + `config.input_check.cycles` on `bad` is its verdict, until the
    next one. An upset of its control ends a check early or late, but never leaves it busy.

    Parameters: `config` (with `modulus`, `form` "input"), the `site` of its registers.

    Members: `issue`, a step is issued (cycle t; its elements are in `act` in cycle t + 2); `start`,
    it is a window's first, of the frame's first window with `begin`; `end`, it is the frame's last
    step; `act`; `drain`, a word leaves the lanes, the frame's first with `drain_begin`, the first
    of the frame's last group with `drain_late`; `drained`; `busy`, `bad`.
    """

    def __init__(self, config: LinearConfig, site: Site) -> None:
        self.config, self.site, self.check = config, site, config.input_check
        ins = ("issue", "start", "begin", "end", "drain", "drain_begin", "drain_late")
        super().__init__(
            {
                **{name: In(1) for name in ins},
                "act": In(config.elements * config.act_bits),
                "drained": In(config.out_lanes * config.acc_bits),
                "busy": Out(1),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.bank = self._register(1, "results_bank")
        self.sums, elements_bank = self._sum_elements(m)
        self.results = self._sum_results(m)
        self._walk(m, elements_bank)
        return m

    def _register(self, bits: int, name: str) -> Signal:
        return self.site.register(unsigned(bits), name, "checker")

    def _later(self, m: Module, value: Value, name: str) -> Signal:
        """`value` a cycle later."""
        stage = self._register(len(value), name)
        m.d.sync += stage.eq(value)
        return stage

    def _sum(self, m: Module, values: list[Term], bits: int, name: str) -> Value:
        return summed(m, values, self.check.modulus, bits, name)

    def _store(self, m: Module, name: str, bits: int, words: int) -> memory.Memory:
        """A memory of two banks."""
        depth = 2 << (words - 1).bit_length()
        store = memory.Memory(shape=unsigned(bits), depth=depth, init=[])
        m.submodules[name] = store
        return store

    def _sum_elements(self, m: Module) -> tuple[memory.ReadPort, Signal]:
        """Add each step's elements to their sums; the check's read port, the last frame's bank."""
        check, config, size = self.check, self.config, self.check.element_bits
        bank, last = self._register(1, "elements_bank"), self._register(1, "elements_last")
        first = self._register(1, "first_window")
        # Cycle 1: marks. Cycle 2: place of the step, whose elements are in `act`.
        issue, start, begin = (
            self._later(m, getattr(self, name), f"{name}_1") for name in ("issue", "start", "begin")
        )
        valid = self._later(m, issue, "valid_2")
        end = self._later(m, self._later(m, self.end, "end_1"), "end_2")
        with m.If(issue & start):
            m.d.sync += first.eq(begin)
            with m.If(begin):
                m.d.sync += bank.eq(~bank)
        with m.If(end):
            m.d.sync += last.eq(bank)
        fresh: Value = Const(1, 1)
        slot: Value = Const(0, 0)
        if len(check.places) > 1:
            position = self._register(clog2(len(check.places)), "position")
            with m.If(issue):
                m.d.sync += position.eq(Mux(start, 0, position + 1))
            fresh = rom(m, [place is not None for place in check.places], position, 1, "fresh")
            slots = [index if place is None else place for index, place in enumerate(check.places)]
            bits = (check.words - 1).bit_length()
            slot = position[:bits]
            if slots != list(range(len(slots))):
                slot = rom(m, [n % (1 << bits) for n in slots], position, max(1, bits), "slot")
        store = self._store(m, "elements", size * config.elements, check.words)
        write, read = store.write_port(), store.read_port(domain="comb")
        signs = config.act_signed or config.act_bipolar
        values = []
        for i in range(config.elements):
            element = self.act.word_select(i, config.act_bits)
            element = bipolar(element) if config.act_bipolar else element
            before = Mux(first, 0, read.data[i * size : (i + 1) * size])
            terms = [(before, check.modulus is None), (element, signs)]
            values.append(self._sum(m, terms, size, f"element_{i}"))
        m.d.comb += [
            read.addr.eq(Cat(slot, bank)),
            write.addr.eq(Cat(slot, bank)),
            write.data.eq(Cat(*values)),
            write.en.eq(valid & fresh),
        ]
        return store.read_port(domain="comb"), last

    def _sum_results(self, m: Module) -> memory.ReadPort:
        """Add each word that drains to the sums of its channels; the check's read port."""
        check, config, size = self.check, self.config, self.check.result_bits
        first = self._register(1, "first_results")
        drain = self._later(m, self.drain, "drain_1")
        index: Value = Const(0, 0)
        turn: Value = Const(1, 1)
        if check.results > 1:
            count = self._register(clog2(check.results), "result")
            turn = count == check.results - 1
            with m.If(self.drain):
                m.d.sync += count.eq(Mux(self.drain_begin | turn, 0, count + 1))
            index = count
        with m.If(self.drain):
            m.d.sync += first.eq(self.drain_begin | (first & ~turn))
            with m.If(self.drain_begin):
                m.d.sync += self.bank.eq(~self.bank)
        store = self._store(m, "results", size * config.out_lanes, check.results)
        write, read = store.write_port(), store.read_port(domain="comb")
        values = []
        for i in range(config.out_lanes):
            word: Term = (self.drained.word_select(i, config.acc_bits), True)
            part = self._later(m, self._sum(m, [word], size, f"word_{i}"), f"drained_{i}")
            before = Mux(first, 0, read.data[i * size : (i + 1) * size])
            signs = check.modulus is None
            values.append(self._sum(m, [(before, signs), (part, signs)], size, f"results_{i}"))
        m.d.comb += [
            read.addr.eq(Cat(index, self.bank)),
            write.addr.eq(Cat(index, self.bank)),
            write.data.eq(Cat(*values)),
            write.en.eq(drain),
        ]
        return store.read_port(domain="comb")

    def _walk(self, m: Module, last_bank: Signal) -> None:
        """Channel by channel: its products, its bias and its results add up to 0."""
        check, config = self.check, self.config
        start, running = Signal(), self._register(1, "running")
        m.d.comb += start.eq(self.drain & self.drain_late)
        elements_bank, results_bank = self._register(1, "bank_1"), self._register(1, "bank_2")
        with m.If(start):
            m.d.sync += elements_bank.eq(last_bank)
        with m.If(self._later(m, start, "start_2")):
            m.d.sync += results_bank.eq(self.bank)
        counts = {"part": check.parts, "step": config.steps, "lane": config.out_lanes}
        counts["word"] = check.results
        at, marks = self._count(m, start, running, counts)
        with m.If(start):
            m.d.sync += running.eq(1)
        with m.Elif(marks["final"]):
            m.d.sync += running.eq(0)
        # Operands.
        weights = self._weights(m, start, running)
        sums = self._operands(m, at, elements_bank)
        first, last, final = (
            self._later(m, mark & running, f"{name}_1") for name, mark in marks.items()
        )
        valid = self._later(m, running, "valid_1")
        lane = at["lane"] if config.out_lanes == 1 else self._later(m, at["lane"], "lane_1")
        word = at["word"] if check.results == 1 else self._later(m, at["word"], "word_1")
        # Products, and with a channel's last one its bias and its results.
        signs, size = check.modulus is None, check.result_bits
        terms: list[Term] = [
            (self._later(m, self._product(m, s, w, f"product_{i}"), f"product_{i}"), signs)
            for i, (s, w) in enumerate(zip(sums, weights, strict=True))
        ]
        m.d.comb += self.results.addr.eq(Cat(word, results_bank))
        bias = rom(m, self._biases(), Cat(lane, word), size, "bias")
        collected = self.results.data
        if config.out_lanes > 1:
            collected = collected.word_select(lane, size)
        both = self._sum(m, [(collected, signs), (bias, signs)], size, "both")
        terms.append((self._later(m, Mux(last, both, 0), "more"), signs))
        marks = {"first": first, "last": last, "final": final, "valid": valid}
        marks = {name: self._later(m, mark, f"{name}_2") for name, mark in marks.items()}
        # Their sum, and its verdict.
        acc = self._register(size, "acc")
        m.d.sync += acc.eq(
            self._sum(m, [(Mux(marks["first"], 0, acc), signs), *terms], size, "total")
        )
        late = {n: self._later(m, marks[n], f"{n}_3") for n in ("last", "final", "valid")}
        found, wrong = self._register(1, "found"), Signal()
        verdict = self._register(1, "verdict")
        m.d.comb += wrong.eq(late["last"] & (acc != 0))
        m.d.sync += found.eq(~start & (found | wrong))
        with m.If(late["final"]):
            m.d.sync += verdict.eq(found | wrong)
        m.d.comb += [
            self.busy.eq(running | valid | marks["valid"] | late["valid"]),
            self.bad.eq(verdict),
        ]

    def _count(
        self, m: Module, start: Value, running: Value, counts: dict[str, int]
    ) -> tuple[dict[str, Value], dict[str, Value]]:
        """Nested counters, the first the innermost; a channel's first and last product, the end."""
        at: dict[str, Value] = {}
        first: Value = Const(1, 1)
        last: Value = Const(1, 1)
        marks: dict[str, Value] = {}
        for name, count in counts.items():
            at[name] = Const(0, 0)
            step = last
            if count > 1:
                counter = self._register(clog2(count), f"{name}_count")
                top = counter == count - 1
                with m.If(start):
                    m.d.sync += counter.eq(0)
                with m.Elif(running & step):
                    m.d.sync += counter.eq(Mux(top, 0, counter + 1))
                first, last = first & (counter == 0), step & top
                at[name] = counter
            if name == "step":
                marks |= {"first": first, "last": last}
        marks["final"] = last
        return at, marks

    def _weights(self, m: Module, start: Value, running: Value) -> list[Value]:
        """The weights of the products of a cycle: a memory with its register."""
        check, bits = self.check, self.check.weight_bits
        mask = (1 << bits) - 1
        words = [
            sum((value & mask) << (i * bits) for i, value in enumerate(row))
            for row in check.weights.tolist()
        ]
        address = self._register(clog2(len(words)), "weight_address")
        with m.If(start):
            m.d.sync += address.eq(0)
        with m.Elif(running):
            m.d.sync += address.eq(address + 1)
        store = memory.Memory(shape=unsigned(bits * check.parallel), depth=len(words), init=words)
        m.submodules.weights = store
        read = store.read_port(domain="comb")
        m.d.comb += read.addr.eq(address)
        word = self._later(m, read.data, "weights")
        return [word[i * bits : (i + 1) * bits] for i in range(check.parallel)]

    def _operands(self, m: Module, at: dict[str, Value], bank: Value) -> list[Signal]:
        """The sums of the elements that the products of a cycle take, in registers."""
        check, config, size = self.check, self.config, self.check.element_bits
        bits = (check.words - 1).bit_length()
        slot = at["step"]
        if len(set(check.sources)) > 1:
            sources = [base for base in check.sources for _ in range(config.beats)]
            slot = slot + rom(m, sources, at["word"], max(1, bits), "source")
        m.d.comb += self.sums.addr.eq(Cat(slot[:bits], bank))
        found = []
        for i in range(check.parallel):
            picked: Value = self.sums.data
            if config.elements > 1:
                places = rom(
                    m, self._picks(i), self._place(at), clog2(config.elements), f"pick_{i}"
                )
                picked = picked.word_select(places, size)
            found.append(self._later(m, picked, f"sum_{i}"))
        return found

    def _place(self, at: dict[str, Value]) -> Value:
        """What tells which elements a product takes: the part, and the lane where lanes differ."""
        alike = len(self.config.picks) == 1
        return at["part"] if alike else Cat(at["part"], at["lane"], at["word"])

    def _picks(self, index: int) -> list[int]:
        """The element that multiplier `index` takes, for each value of `_place`."""
        check, config = self.check, self.config
        parts = 1 << (check.parts - 1).bit_length()
        if len(config.picks) == 1:
            lanes = [0]
        else:
            lanes = [
                word % config.beats * config.out_lanes + min(lane, config.out_lanes - 1)
                for word in range(check.results)
                for lane in range(1 << (config.out_lanes - 1).bit_length())
            ]
        return [
            config.lane_elements(lane)[min(part, check.parts - 1) * check.parallel + index]
            for lane in lanes
            for part in range(parts)
        ]

    def _biases(self) -> list[int]:
        """The biases by lane and word, those that are negative as `rom` takes them."""
        check, lanes = self.check, self.config.out_lanes
        mask = (1 << check.result_bits) - 1
        return [
            check.biases[word * lanes + min(lane, lanes - 1)] & mask
            for word in range(check.results)
            for lane in range(1 << (lanes - 1).bit_length())
        ]

    def _product(self, m: Module, x: Value, weight: Value, name: str) -> Value:
        modulus, size = self.check.modulus, self.check.result_bits
        if modulus is not None:
            return product(m, x, weight, modulus, f"{name}_residue")
        full = Signal(signed(size), name=f"{name}_full")
        blocks = self.config.multiplier in ("dsp", "dsp2")
        x, weight = x.as_signed(), weight.as_signed()
        m.d.comb += full.eq(x * weight if blocks else lut_multiply(x, weight))
        return full
