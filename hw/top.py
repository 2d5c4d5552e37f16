"""The whole network: layers, forks and converters between them, taps for the benches."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from .code_words import code_bits
from .codes import check_word, encode_word
from .config import INPUT, LayerConfig, inlet, inlet_control, stream_codes
from .fork import Fork
from .join import AddJoin, ConcatJoin, MergeJoin, PadJoin
from .join_config import AddConfig, ConcatConfig, JoinConfig, MergeConfig, PadConfig
from .linear import Linear
from .linear_config import LinearConfig
from .reduce import ArgMax, Pool
from .reduce_config import ArgMaxConfig, PoolConfig
from .shift_add import ShiftLinear
from .shift_config import ShiftConfig
from .site import Site
from .stream import beat_stream
from .watchdog import Watchdog
from .watchdog_config import WatchdogConfig
from .width import connect_streams

__all__ = ["Top", "layer_component", "retries"]


def layer_component(config: LayerConfig) -> wiring.Component:
    """The component of a layer's configuration."""
    match config:
        case ShiftConfig():
            return ShiftLinear(config)
        case LinearConfig():
            return Linear(config)
        case PoolConfig():
            return Pool(config)
        case AddConfig():
            return AddJoin(config)
        case ConcatConfig():
            return ConcatJoin(config)
        case MergeConfig():
            return MergeJoin(config)
        case PadConfig():
            return PadJoin(config)
    assert isinstance(config, ArgMaxConfig)
    return ArgMax(config)


def retries(layers: tuple[LayerConfig, ...]) -> tuple[str, ...]:
    """Names of the layers that compute again what failed its checksum."""
    return tuple(one.name for one in layers if isinstance(one, LinearConfig) and one.retry)


class Top(wiring.Component):
    """Layers on streams; the ports are plain signals, so that any bench can drive them.

    Members: `i_valid`, `i_ready`, `i_data`, `i_first`, `i_last`; `o_valid`, `o_ready`, `o_data`,
    `o_first`, `o_last`, `o_err`; where layers retry also `o_retried`, 1 in a cycle in which one of
    them does. Wires: tap_<layer>_{valid,ready,data,first,last,err}, retry_<layer>.

    Parameters: `layers` in order of the data; the `watchdog` behind them, if any. Raises ValueError
    when there are no layers.
    """

    def __init__(
        self, layers: tuple[LayerConfig, ...], watchdog: WatchdogConfig | None = None
    ) -> None:
        if not layers:
            raise ValueError("layers must not be empty")
        self.layers = layers
        last = layers[-1]
        self.watchdog: Watchdog | None = None
        if watchdog is not None:
            self.watchdog = Watchdog(watchdog, last.out_lanes, last.out_bits)
        self.inlet = inlet(layers)
        lanes, bits = self.inlet
        self.retried: list[Any] = []
        super().__init__(
            {
                **({"o_retried": Out(1)} if retries(layers) else {}),
                "i_valid": In(1),
                "i_ready": Out(1),
                "i_data": In(lanes * bits),
                "i_first": In(1),
                "i_last": In(1),
                "o_valid": Out(1),
                "o_ready": In(1),
                "o_data": Out(last.out_lanes * last.out_bits),
                "o_first": Out(1),
                "o_last": Out(1),
                "o_err": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        code = stream_codes(self.layers)[INPUT]
        head = self._enter(m, code)
        control = inlet_control(self.layers)
        streams = self._streams(m, INPUT, head, *self.inlet, control=control, code=code)
        stream: Any = head
        for config in self.layers:
            layer = layer_component(config)
            m.submodules[config.name] = self._held(layer)
            operands = zip(config.sources, config.element_bits, strict=True)
            for port, (source, bits) in enumerate(operands):
                stream, lanes = streams[source].pop(0)
                alone, name = not isinstance(config, JoinConfig), f"to_{config.name}"
                connect_streams(
                    m,
                    stream,
                    layer.i if alone else getattr(layer, f"i_{port}"),
                    (lanes, config.in_lanes[port]),
                    bits,
                    name if alone else f"{name}_{port}",
                    control=config.control,
                    code_bits=config.in_code_bits(port),
                    held=self._held,
                )
            stream = layer.o
            self._tap(m, config.name, stream)
            if config.name in retries(self.layers):
                counted = Signal(name=f"retry_{config.name}")
                m.d.comb += counted.eq(layer.retried)
                self.retried.append(counted)
            guard = {"control": config.control, "code": config.stream}
            streams |= self._streams(
                m, config.name, stream, config.out_lanes, config.out_bits, **guard
            )
        self._leave(m, stream)
        if self.retried:
            m.d.comb += self.o_retried.eq(Cat(*self.retried).any())
        return m

    def _enter(self, m: Module, code: str) -> Any:
        """The input as a stream; while the network is emptied nothing goes into it."""
        lanes, bits = self.inlet
        head = beat_stream(lanes, bits, code_bits(code, bits)).create(path=("head",))
        m.d.comb += [
            head.payload.data.eq(self.i_data),
            head.payload.first.eq(self.i_first),
            head.payload.last.eq(self.i_last),
        ]
        if code != "none":
            m.d.comb += head.payload.code.eq(encode_word(m, code, self.i_data, bits))
        if self.watchdog is None:
            m.d.comb += [head.valid.eq(self.i_valid), self.i_ready.eq(head.ready)]
            return head
        m.submodules.watchdog = guard = self.watchdog
        m.d.comb += [
            head.valid.eq(self.i_valid & ~guard.drain),
            self.i_ready.eq(Mux(guard.drain, guard.take, head.ready)),
            guard.valid.eq(self.i_valid),
            guard.ready.eq(head.ready),
            guard.first.eq(self.i_first),
            guard.last.eq(self.i_last),
        ]
        return head

    def _held(self, unit: Any) -> Any:
        """A part of the network, which the watchdog resets."""
        return unit if self.watchdog is None else ResetInserter(self.watchdog.drain)(unit)

    def _leave(self, m: Module, stream: Any) -> None:
        """The output's ports; the code of what leaves is checked here."""
        last, beat = self.layers[-1], stream.payload
        data, err = beat.data, beat.err
        if last.stream != "none":
            data, wrong = check_word(m, last.stream, beat.data, beat.code, last.out_bits)
            err = err | (stream.valid & wrong)
        leaving = beat_stream(last.out_lanes, last.out_bits).create(path=("leaving",))
        out: Any = leaving
        if self.watchdog is not None:
            out = self.watchdog.o
            connect(m, leaving, self.watchdog.i)
        m.d.comb += [
            leaving.valid.eq(stream.valid),
            leaving.payload.data.eq(data),
            leaving.payload.first.eq(beat.first),
            leaving.payload.last.eq(beat.last),
            leaving.payload.err.eq(err),
            stream.ready.eq(leaving.ready),
            self.o_valid.eq(out.valid),
            self.o_data.eq(out.payload.data),
            self.o_first.eq(out.payload.first),
            self.o_last.eq(out.payload.last),
            self.o_err.eq(out.payload.err),
            out.ready.eq(self.o_ready),
        ]

    def _streams(
        self, m: Module, source: str, stream: Any, lanes: int, bits: int, *, control: str, code: str
    ) -> dict[str, list[tuple[Any, int]]]:
        """A stream for each operand that reads `source`, in order of the layers."""
        readers = sum(layer.sources.count(source) for layer in self.layers)
        if readers < 2:
            return {source: [(stream, lanes)]}
        site = Site(source or "input")
        size = code_bits(code, bits)
        fork = Fork(lanes, bits, readers, site, control=control, code_bits=size)
        m.submodules[f"fork_{site.layer}"] = self._held(fork)
        connect(m, stream, fork.i)
        return {source: [(getattr(fork, f"o_{i}"), lanes) for i in range(readers)]}

    def _tap(self, m: Module, name: str, stream: Any) -> None:
        """Named wires that show a layer's output stream."""
        sources = {"valid": stream.valid, "ready": stream.ready}
        sources |= {field: stream.payload[field] for field in ("data", "first", "last", "err")}
        for field, source in sources.items():
            tap = Signal(len(source), name=f"tap_{name}_{field}")
            m.d.comb += tap.eq(source)
