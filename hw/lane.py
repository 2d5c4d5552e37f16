"""One output lane: weights, multipliers, adder tree and accumulator of a neuron at a time."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Module, Mux, Value, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .arith import adder_tree, bipolar, lut_multiply, registers_of, rom, table
from .code_words import code_bits, encode_int
from .codes import check
from .config import clog2
from .linear_config import LinearConfig
from .pairs import half_bits
from .site import Site

__all__ = ["Lane", "weight_word"]


class Lane(wiring.Component):
    """acc = bias + sum over a group's steps of `simd` products; one step a cycle.

    A step whose elements are in `act` in cycle t is in `acc` from cycle t + 2 + tree levels + 1 on.
    The accumulator reloads `acc_in` in every cycle, stalled or not: an unprotected lane feeds `acc`
    straight back, a replica the voted value (the protected sphere starts at `act` and at the
    control inputs; ROM and weight register are inside).

    A lane of a pair (`config.pairs`) gets its products from `hw.packed.PackedProducts` instead.

    Parameters: the layer's `config`, this lane's `index`, the `site` of its registers.

    Members: `address`, the ROM word of the step that is in `act` one cycle later (two, for block
    RAM), and `act`, or, in a pair, `products`; `valid`, `first` (a step, a group's first step) as
    they reach the accumulator; `group`, the pass whose bias starts the sum; `acc_in`, `acc`;
    where weights have a code `broken`: those that meet `act` are wrong.
    Raises ValueError for an index outside 0..pe - 1.
    """

    def __init__(self, config: LinearConfig, index: int, site: Site) -> None:
        if not 0 <= index < config.pe:
            raise ValueError(f"index must be 0..{config.pe - 1}, not {index}")
        self.config, self.index, self.site = config, index, site
        self.packed = any(index in pair for pair in config.pairs)
        self.code = "none" if self.packed else config.lane_code(index)
        passes, _, steps, _ = config.weight.shape
        source: dict[str, Any] = {
            "address": In(clog2(passes * steps)),
            "act": In(config.simd * config.act_bits),
        }
        if self.packed:
            source = {"products": In(config.simd * half_bits(config))}
        if self.code != "none":
            source["broken"] = Out(1)
        super().__init__(
            {
                **source,
                "valid": In(1),
                "first": In(1),
                "group": In(clog2(len(config.turns))),
                "acc_in": In(signed(config.acc_bits)),
                "acc": Out(signed(config.acc_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, site = self.config, self.site
        products = self._shared() if self.packed else self._products(m)
        # Cycles 2..: adder tree; then the accumulator.
        total = adder_tree(
            registers_of(m, site, "product"), products, "sum", signed(config.acc_bits)
        )
        biases = config.bias[list(config.turn_passes), self.index].tolist()
        bias = rom(m, biases, self.group, signed(config.acc_bits), "bias")
        acc = site.register(signed(config.acc_bits), "acc", "accumulator")
        base = Mux(self.first, bias, self.acc_in)
        m.d.sync += acc.eq(Mux(self.valid, base + total, self.acc_in))
        m.d.comb += self.acc.eq(acc)
        return m

    def _shared(self) -> list[Value]:
        """Products that the pair's multipliers made."""
        bits = half_bits(self.config)
        return [self.products.word_select(i, bits).as_signed() for i in range(self.config.simd)]

    def _products(self, m: Module) -> list[Value]:
        """Cycle 1: products of this lane's own multipliers."""
        config, site = self.config, self.site
        weights = self._weights(m)
        products: list[Value] = []
        both = config.act_bipolar and config.weight_bipolar
        for i in range(config.simd):
            shape = unsigned(1) if both else signed(config.product_bits)
            product = site.register(shape, f"product_{i}", "product")
            act = self.act.word_select(i, config.act_bits)
            m.d.sync += product.eq(self._product(act, weights[i]))
            products.append(bipolar(product) if both else product)
        return products

    def _product(self, act: Any, weight: Value) -> Value:
        """act * weight; a bipolar operand chooses between the other one and its negative."""
        config = self.config
        if config.act_bipolar:
            return ~(act ^ weight) if config.weight_bipolar else Mux(act, weight, -weight)
        act = act.as_signed() if config.act_signed else act
        if config.weight_bipolar:
            return Mux(weight, act, -act)
        if config.multiplier == "lut" and not config.constant_weights:
            return lut_multiply(act, weight)
        product: Value = act * weight
        return product

    def _weights(self, m: Module) -> list[Value]:
        """The step's weights: a ROM and its register, or constants when there is one word only."""
        config, site = self.config, self.site
        rows = config.weight_codes[:, self.index].reshape(-1, config.simd).tolist()
        bits = config.weight_bits
        if config.constant_weights:
            shape = unsigned(1) if config.weight_bipolar else signed(bits)
            return [Const(value, shape) for value in rows[0]]
        width, words = bits * config.simd, table(rows, bits)
        weight, wrong = weight_word(m, config, site, words, width, self.address, self.code)
        if self.code != "none":
            m.d.comb += self.broken.eq(wrong)
        each = [weight.word_select(i, bits) for i in range(config.simd)]
        return each if config.weight_bipolar else [word.as_signed() for word in each]


def weight_word(
    m: Module,
    config: LinearConfig,
    site: Site,
    words: list[int],
    width: int,
    address: Value,
    code: str,
) -> tuple[Value, Value]:
    """What the register behind a weight ROM of `words` of `width` bits each holds, and if wrongly.

    It holds the word of `address` a cycle later, out of block RAM two. Each word has a `code`
    beside it, which corrects the word where it can.
    """
    data = width
    width += code_bits(code, data)
    words = [word | encode_int(code, word, data) << data for word in words]
    store = memory.Memory(
        shape=unsigned(width),
        depth=len(words),
        init=words,
        attrs={"rom_style": "block" if config.block_weights else "logic"},
    )
    m.submodules.weights = store
    read = store.read_port(domain="comb")
    weight = site.register(unsigned(width), "weight", "weight")
    m.d.comb += read.addr.eq(address)
    if config.block_weights:
        # The block RAM's own output register; its delay would end in the multiplier's.
        latch = site.register(unsigned(width), "weight_latch", "weight")
        m.d.sync += [latch.eq(read.data), weight.eq(latch)]
    else:
        m.d.sync += weight.eq(read.data)
    return check(m, code, weight[:data], weight[data:]) if code != "none" else (weight, Const(0, 1))
