"""The whole network: layers in a chain, converters between them, taps for the benches."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import ArgMaxConfig, LayerConfig, LinearConfig, PoolConfig
from .linear import Linear
from .reduce import ArgMax, Pool
from .stream import beat_stream
from .width import connect_streams

__all__ = ["Top", "layer_component"]


def layer_component(config: LayerConfig) -> wiring.Component:
    """The component of a layer's configuration."""
    if isinstance(config, LinearConfig):
        return Linear(config)
    if isinstance(config, PoolConfig):
        return Pool(config)
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
        window, last = layers[0].window, layers[-1]
        super().__init__(
            {
                "i_valid": In(1),
                "i_ready": Out(1),
                "i_data": In(window.word * window.lane_bits),
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
        window, final = self.layers[0].window, self.layers[-1]
        head = beat_stream(window.word, window.lane_bits).create(path=("head",))
        m.d.comb += [
            head.valid.eq(self.i_valid),
            head.payload.data.eq(self.i_data),
            head.payload.first.eq(self.i_first),
            head.payload.last.eq(self.i_last),
            self.i_ready.eq(head.ready),
        ]
        stream: Any = head
        lanes = window.word
        for config in self.layers:
            m.submodules[config.name] = layer = layer_component(config)
            bits = config.window.lane_bits
            connect_streams(
                m,
                stream,
                layer.i,
                (lanes, config.window.word),
                bits,
                f"to_{config.name}",
                checked=config.checked,
            )
            stream, lanes = layer.o, config.out_lanes
            self._tap(m, config.name, stream)
        tail = stream
        m.d.comb += [
            self.o_valid.eq(tail.valid),
            self.o_data.eq(tail.payload.data),
            self.o_first.eq(tail.payload.first),
            self.o_last.eq(tail.payload.last),
            self.o_err.eq(tail.payload.err),
            tail.ready.eq(self.o_ready),
        ]
        assert lanes == final.out_lanes
        return m

    def _tap(self, m: Module, name: str, stream: Any) -> None:
        """Named wires that show a layer's output stream."""
        sources = {"valid": stream.valid, "ready": stream.ready}
        sources |= {field: stream.payload[field] for field in ("data", "first", "last", "err")}
        for field, source in sources.items():
            tap = Signal(len(source), name=f"tap_{name}_{field}")
            m.d.comb += tap.eq(source)
