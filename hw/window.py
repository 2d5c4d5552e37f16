"""Window buffer: a circular memory that turns a channels-last stream into windows.

The stream is written word by word; the reader walks over the windows in raster order and fetches
`ports` words a step at fixed offsets from the window's first word. Positions are counted along the
stream modulo a power of two, so padding needs no special address: it is masked.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .arith import repeated, rom
from .config import WindowConfig, clog2
from .control import ControlGroup
from .site import Site
from .stream import beat_stream

__all__ = ["WindowBuffer", "reader_layout"]


def reader_layout(config: WindowConfig) -> data.StructLayout:
    """Where the reader stands.

    Fields: `window`, the position of a window's first word; `err`, its frame was flagged upstream;
    `oy` and `ox`, its row and column, where there are several.
    """
    fields = {"window": config.index_bits, "err": 1}
    for name, count in zip(("oy", "ox"), config.out_size, strict=True):
        if count > 1:
            fields[name] = clog2(count)
    return data.StructLayout(fields)


class WindowBuffer(wiring.Component):
    """Buffer of `config.depth` words with `config.ports` reads.

    A word accepted in cycle t is readable from cycle t + 1. The first word of a frame leaves a
    *claim* (its position); the reader takes it in cycle t + 1 at the earliest, or in the last cycle
    of the frame before, and may read from the cycle after. So one upset in a position cannot shift
    the frames that follow. Data of the step requested in cycle t is in `act` from cycle t + 2.

    With `config.hold` the words of a window stay until `hw.retry` has its verdict, and the reader
    can be sent back: `here`, where it stands; `replay`, it is to read at `again` instead; `held`,
    the words from the position `oldest` on are still needed.

    Parameters: `config`, the `site` of its registers, how `control` is protected.

    Members: `i`, the stream; `available`, the current window is complete; `step`, `pass_`, what to
    read; `read`, a step is issued; `advance`, its window is finished; `first_window`,
    `last_window`, position in the frame; `place`, where `config.counted`: its class of rows and,
    above it, of columns; `err`, the frame was flagged upstream; `alarm`, a control
    register was upset; `act`, the fetched elements, port 0 lowest; `code`, their codes.
    """

    def __init__(self, config: WindowConfig, site: Site, *, control: str = "none") -> None:
        self.config, self.site, self.control = config, site, control
        elements = config.elements
        members: dict[str, Any] = {
            "i": In(beat_stream(config.word, config.lane_bits, config.code_bits)),
            "available": Out(1),
            "step": In(clog2(config.steps)),
            "pass_": In(clog2(len(config.passes))),
            "read": In(1),
            "advance": In(1),
            "first_window": Out(1),
            "last_window": Out(1),
            "err": Out(1),
            "alarm": Out(1),
            "act": Out(elements * config.lane_bits),
        }
        if config.code_bits:
            members["code"] = Out(elements * config.code_bits)
        if any(config.place_bits):
            members["place"] = Out(sum(config.place_bits))
        if config.hold:
            layout = reader_layout(config)
            members |= {"here": Out(layout), "again": In(layout), "replay": In(1)}
            members |= {"held": In(1), "oldest": In(config.index_bits)}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, bits = self.config, self.config.index_bits
        group = ControlGroup(m, self.site, self.control)
        register, change = group.register, group.set
        written, claim, window = (register(bits, n) for n in ("written", "claim", "window"))
        row, end = register(bits, "row"), register(bits, "end")
        active, claim_valid = register(1, "active"), register(1, "claim_valid")
        position = self._position(m, group)
        finished = Signal()
        m.d.comb += finished.eq(self.advance & self.last_window)

        # Writer: a word is refused while its slot is still needed, or a claim is still open.
        ahead = Signal(bits)
        oldest, needed = self._oldest(window, active | claim_valid)
        m.d.comb += [
            ahead.eq(written - oldest),
            self.i.ready.eq(
                ~(self.i.payload.first & claim_valid)
                & ~(needed & ~ahead[-1] & ahead[clog2(config.depth) : -1].any())
            ),
        ]
        accept = Signal()
        m.d.comb += accept.eq(self.i.valid & self.i.ready)
        with m.If(accept):
            change(written, written + 1)

        # Reader: positions of the window, of the row of windows and of the frame's end.
        start = self._modulo(-config.lead)
        columns_step = config.stride[1] * config.words_per_pixel
        rows_step = config.stride[0] * config.width * config.words_per_pixel
        with m.If(self.advance):
            with m.If(position["last_column"]):
                change(row, row + rows_step)
                change(window, row + rows_step)
            with m.Else():
                change(window, window + columns_step)
        take = Signal()
        m.d.comb += take.eq(claim_valid & (~active | finished))
        with m.If(take):
            change(active, 1)
            change(claim_valid, 0)
            change(window, claim + start)
            change(row, claim + start)
            change(end, claim + config.frame_words)
        with m.Elif(finished):
            change(active, 0)
            change(window, end + start)
        with m.If(accept & self.i.payload.first):
            change(claim_valid, 1)
            change(claim, written)
        whole, rest = Signal(bits), Signal(bits)
        m.d.comb += [
            whole.eq(written - window - config.span),
            rest.eq(written - end),
            self.available.eq(active & (~whole[-1] | (position["tail"] & ~rest[-1]))),
        ]
        self._flag(m, group, accept, take, claim_valid)
        self._read(m, group, accept, written, self._at(m, "window", window), position)
        m.d.comb += self.alarm.eq(group.finish())
        return m

    def _oldest(self, window: Signal, needed: Value) -> tuple[Value, Value]:
        """The first position that is needed, and whether any is."""
        if not self.config.hold:
            return window, needed
        return Mux(self.held, self.oldest, window), needed | self.held

    def _modulo(self, value: int) -> int:
        return value % (1 << self.config.index_bits)

    def _position(self, m: Module, group: ControlGroup) -> dict[str, Any]:
        """Row and column of the current window, and which kernel rows and columns are inside."""
        config = self.config
        rows, columns = config.out_size
        oy = group.register(range(max(rows, 2)), "oy")
        ox = group.register(range(max(columns, 2)), "ox")
        last_column = Signal()
        y = self._at(m, "oy", oy) if rows > 1 else oy
        x = self._at(m, "ox", ox) if columns > 1 else ox
        m.d.comb += [
            last_column.eq(x == columns - 1),
            self.first_window.eq((y == 0) & (x == 0)),
            self.last_window.eq((y == rows - 1) & last_column),
        ]
        with m.If(self.advance):
            group.set(ox, Mux(last_column, 0, ox + 1))
            with m.If(last_column):
                group.set(oy, Mux(oy == rows - 1, 0, oy + 1))

        def inside(n: int, axis: int, size: int, index: Signal, name: str) -> Signal:
            """Bit k: kernel row (column) k of window `index` lies inside the image."""
            stride, pad = config.stride[axis], config.padding[axis]
            masks = []
            for o in range(n):
                at = [
                    o * stride - pad + k * config.dilation[axis] for k in range(config.kernel[axis])
                ]
                masks.append(sum((0 <= a < size) << k for k, a in enumerate(at)))
            return rom(m, masks, index, config.kernel[axis], name)

        if any(config.place_bits):
            m.d.comb += self.place.eq(self._place(m, oy, ox))
        # Far from the frame's end its distance may have wrapped.
        tail: Any = Const(1, 1) if config.end_in_reach else oy >= config.tail_row
        return {
            "last_column": last_column,
            "tail": tail,
            "rows": inside(rows, 0, config.height, y, "rows_inside"),
            "columns": inside(columns, 1, config.width, x, "columns_inside"),
        }

    def _at(self, m: Module, name: str, register: Signal) -> Value:
        """Part of where the reader stands: the register's, unless a window is read again."""
        if not self.config.hold:
            return register
        m.d.comb += self.here[name].eq(register)
        found: Value = Mux(self.replay, self.again[name], register)
        return found

    def _place(self, m: Module, oy: Signal, ox: Signal) -> Any:
        """How many rows and columns of the current window are inside, as classes."""
        config, classes = self.config, []
        for axis, (index, name) in enumerate(((oy, "row_class"), (ox, "column_class"))):
            bits, counts = config.place_bits[axis], config.place_counts[axis]
            if bits:
                found = [counts.index(n) for n in config.inside[axis]]
                classes.append(rom(m, found, index, bits, name))
        return Cat(*classes)

    def _flag(
        self, m: Module, group: ControlGroup, accept: Signal, take: Signal, claim_valid: Signal
    ) -> None:
        """`err` is set for a frame when any of its words was flagged."""
        err, waiting = group.register(1, "err_frame"), group.register(1, "err_claim")
        beat = self.i.payload
        with m.If(accept):
            with m.If(beat.first):
                group.set(waiting, beat.err)
            with m.Elif(claim_valid):
                group.set(waiting, waiting | beat.err)
            with m.Else():
                group.set(err, err | beat.err)
        with m.If(take):
            group.set(err, waiting | (accept & ~beat.first & beat.err))
        m.d.comb += self.err.eq(self._at(m, "err", err))

    def _read(
        self,
        m: Module,
        group: ControlGroup,
        accept: Signal,
        written: Signal,
        window: Value,
        position: dict[str, Any],
    ) -> None:
        config, site = self.config, self.site
        address_bits = clog2(config.depth)
        base = rom(m, list(config.passes), self.pass_, address_bits, "pass_base")
        acts, codes = [], []
        for port in range(config.ports):
            data, code = self._kept(port)
            word = Cat(data, code) if config.code_bits else data
            store = memory.Memory(shape=unsigned(len(word)), depth=config.depth, init=[])
            m.submodules[f"store_{port}"] = store
            write, read = store.write_port(), store.read_port(domain="comb")
            m.d.comb += [write.addr.eq(written), write.data.eq(word), write.en.eq(accept)]
            taps = [step[port] for step in config.taps]
            offsets = [config.offset(tap) % config.depth for tap in taps]
            offset = rom(m, offsets, self.step, address_bits, f"offset_{port}")
            # Cycle 1: the address, and whether it lies in the padding.
            address = group.register(address_bits, f"address_{port}")
            with m.If(self.read):
                group.set(address, window + base + offset)
            m.d.comb += read.addr.eq(address)
            fetched: Any = read.data[: len(data)]
            fetched_code: Any = read.data[len(data) :]
            if config.padded:
                rows = rom(
                    m, [t[0] for t in taps], self.step, clog2(config.kernel[0]), f"kh_{port}"
                )
                columns = rom(
                    m, [t[1] for t in taps], self.step, clog2(config.kernel[1]), f"kw_{port}"
                )
                outside = group.register(1, f"outside_{port}")
                with m.If(self.read):
                    group.set(
                        outside,
                        ~(
                            position["rows"].bit_select(rows, 1)
                            & position["columns"].bit_select(columns, 1)
                        ),
                    )
                lane = config.pad_value % (1 << config.lane_bits)
                fill = repeated(lane, config.lane_bits, len(config.kept[port]))
                fetched = Mux(outside, Const(fill, len(data)), fetched)
                fill = repeated(config.pad_code, config.code_bits, len(config.kept[port]))
                fetched_code = Mux(outside, Const(fill, len(code)), fetched_code)
            # Cycle 2: the words.
            act = site.register(len(data), f"act_{port}", "activation")
            m.d.sync += act.eq(fetched)
            acts.append(act)
            if config.code_bits:
                held = site.register(len(code), f"code_{port}", "activation")
                m.d.sync += held.eq(fetched_code)
                codes.append(held)
        m.d.comb += self.act.eq(Cat(*acts))
        if config.code_bits:
            m.d.comb += self.code.eq(Cat(*codes))

    def _kept(self, port: int) -> tuple[Value, Value]:
        """What a port keeps of a word: elements, and their codes."""
        config, beat = self.config, self.i.payload
        found = []
        for field, bits in (("data", config.lane_bits), ("code", config.code_bits)):
            whole: Value = beat[field] if bits else Const(0, 0)
            if bits and config.used:
                whole = Cat(whole.word_select(i, bits) for i in config.kept[port])
            found.append(whole)
        return found[0], found[1]
