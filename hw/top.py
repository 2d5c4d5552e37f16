"""The whole network: layers, forks and converters between them, taps for the benches."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from .config import INPUT, LayerConfig, inlet
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
from .width import connect_streams

__all__ = ["Top", "layer_component"]


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


class Top(wiring.Component):
    """Layers on streams; the ports are plain signals, so that any bench can drive them.

    Members: `i_valid`, `i_ready`, `i_data`, `i_first`, `i_last`; `o_valid`, `o_ready`, `o_data`,
    `o_first`, `o_last`, `o_err`. Taps: wires tap_<layer>_{valid,ready,data,first,last,err}.

    Parameters: `layers` in order of the data. Raises ValueError when there are none.
    """

    def __init__(self, layers: tuple[LayerConfig, ...]) -> None:
        if not layers:
            raise ValueError("layers must not be empty")
        self.layers = layers
        self.inlet = inlet(layers)
        lanes, bits = self.inlet
        last = layers[-1]
        super().__init__(
            {
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
        head = beat_stream(*self.inlet).create(path=("head",))
        m.d.comb += [
            head.valid.eq(self.i_valid),
            head.payload.data.eq(self.i_data),
            head.payload.first.eq(self.i_first),
            head.payload.last.eq(self.i_last),
            self.i_ready.eq(head.ready),
        ]
        streams = self._streams(m, INPUT, head, *self.inlet, control="none")
        stream: Any = head
        for config in self.layers:
            m.submodules[config.name] = layer = layer_component(config)
            operands = zip(config.sources, config.operand_bits, strict=True)
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
                )
            stream = layer.o
            self._tap(m, config.name, stream)
            streams |= self._streams(
                m, config.name, stream, config.out_lanes, config.out_bits, control=config.control
            )
        m.d.comb += [
            self.o_valid.eq(stream.valid),
            self.o_data.eq(stream.payload.data),
            self.o_first.eq(stream.payload.first),
            self.o_last.eq(stream.payload.last),
            self.o_err.eq(stream.payload.err),
            stream.ready.eq(self.o_ready),
        ]
        return m

    def _streams(
        self, m: Module, source: str, stream: Any, lanes: int, bits: int, *, control: str
    ) -> dict[str, list[tuple[Any, int]]]:
        """A stream for each operand that reads `source`, in order of the layers."""
        readers = sum(layer.sources.count(source) for layer in self.layers)
        if readers < 2:
            return {source: [(stream, lanes)]}
        site = Site(source or "input")
        fork = Fork(lanes, bits, readers, site, control=control)
        m.submodules[f"fork_{site.layer}"] = fork
        connect(m, stream, fork.i)
        return {source: [(getattr(fork, f"o_{i}"), lanes) for i in range(readers)]}

    def _tap(self, m: Module, name: str, stream: Any) -> None:
        """Named wires that show a layer's output stream."""
        sources = {"valid": stream.valid, "ready": stream.ready}
        sources |= {field: stream.payload[field] for field in ("data", "first", "last", "err")}
        for field, source in sources.items():
            tap = Signal(len(source), name=f"tap_{name}_{field}")
            m.d.comb += tap.eq(source)
