"""Two lanes that share their multipliers: one wide product holds two narrow ones.

Two lanes that read the same element x need x wa and x wb. With k bits that hold any such product,

    P = x (wa 2^k + wb) + 2^(k - 1) = x wa 2^k + (x wb + 2^(k - 1)),   0 <= x wb + 2^(k - 1) < 2^k,

so the upper half of P is x wa and the lower half, its top bit flipped, x wb: both exact. The added
constant takes the place of the borrow that a negative lower product would leave. k = bits of x +
bits of w is enough for signed and unsigned x: |x wb| <= 2^(k - 2) if x is signed, else < 2^(k - 1).
Source: Xilinx WP486, "Deep Learning with INT8 Optimization on Xilinx Devices", with the constant in
the place of its correction.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .arith import table
from .config import clog2
from .lane import weight_word
from .linear_config import LinearConfig
from .pairs import codes, half_bits, high_bits
from .site import Site

__all__ = ["PackedProducts"]


class PackedProducts(wiring.Component):
    """The products of lanes `pair` = (a, b) of a step: one multiplication for both, a cycle later.

    Elements that are in `act` in cycle t are in `high` (lane a) and `low` (lane b) from cycle t + 1
    on, `simd` products of `hw.pairs.half_bits` bits each, two's complement. Never stalls, no reset.
    The weights of both lanes lie in one ROM: wb, and wa less one where wb is negative, so that
    extending the sign of wb gives wa 2^k + wb without an adder.

    Parameters: the layer's `config`, two lanes of `config.pairs`, the `site` of the registers,
    which belong to both. Members: `address`, `act`, `broken` as for `hw.lane.Lane`; `high`, `low`.
    Raises ValueError for lanes that are no pair of the layer.
    """

    def __init__(self, config: LinearConfig, pair: tuple[int, int], site: Site) -> None:
        if pair not in config.pairs:
            raise ValueError(f"pair must be one of {config.pairs}, not {pair}")
        self.config, self.pair, self.site = config, pair, site
        passes, _, steps, _ = config.weight.shape
        products = config.simd * half_bits(config)
        self.code = config.lane_code(pair[0])
        super().__init__(
            {
                **({"broken": Out(1)} if self.code != "none" else {}),
                "address": In(clog2(passes * steps)),
                "act": In(config.simd * config.act_bits),
                "high": Out(products),
                "low": Out(products),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, half = self.config, half_bits(self.config)
        weights = self._weights(m)
        # Cycle 1: both products.
        high, low = [], []
        for i, weight in enumerate(weights):
            element: Any = self.act.word_select(i, config.act_bits)
            element = element.as_signed() if config.act_signed else element
            product = self.site.register(signed(2 * half), f"product_{i}", "product")
            m.d.sync += product.eq(element * weight + (1 << (half - 1)))
            high.append(product[half:])
            low.append(Cat(product[: half - 1], ~product[half - 1]))
        m.d.comb += [self.high.eq(Cat(*high)), self.low.eq(Cat(*low))]
        return m

    def _weights(self, m: Module) -> list[Value]:
        """wa 2^k + wb for each element of the step."""
        config = self.config
        bits, width = config.weight_bits, config.weight_bits + high_bits(config)
        low, high = codes(config, self.pair)
        rows = (high << bits) + (low & ((1 << bits) - 1))
        words = table(rows.tolist(), width)
        word, wrong = weight_word(
            m, config, self.site, words, width * config.simd, self.address, self.code
        )
        if self.code != "none":
            m.d.comb += self.broken.eq(wrong)
        found: list[Value] = []
        for i in range(config.simd):
            code = word.word_select(i, width)
            sign = code[bits - 1].replicate(half_bits(config) - bits)
            found.append(Cat(code[:bits], sign, code[bits:]).as_signed())
        return found
