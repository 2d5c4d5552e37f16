# amaranth: UnusedElaboratable=no
"""Checksummed layers: an upset of the datapath leaves every beat right, or flagged."""

import dataclasses
from unittest import mock

import numpy as np
import pytest
from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tercet.hw.checksum import ChecksumLane
from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.site import Site
from tercet.hw.top import layer_component
from tercet.quant import ir

from .engines import bounded
from .miter import Claim
from .proof import Proof, name, prove, refute, roles
from .replay import wrong_cycles

DEPTH = 14
"""The first beat leaves in cycle 11; two more groups can be under way behind it."""


class Beats(wiring.Component):
    """A layer on plain ports; its input has the marks of frames and is never flagged."""

    def __init__(self, config):
        self.config = config
        window = config.window
        super().__init__(
            {
                "i_valid": In(1),
                "i_data": In(window.word * window.lane_bits),
                "i_ready": Out(1),
                "o_ready": In(1),
                "o_valid": Out(1),
                "o_data": Out(config.out_lanes * config.out_bits),
                "o_first": Out(1),
                "o_last": Out(1),
                "err": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        words = self.config.window.frame_words
        m.submodules.layer = layer = layer_component(self.config)
        word = Site("input").register(range(words), "word", "control")
        with m.If(self.i_valid & self.i_ready):
            m.d.sync += word.eq(Mux(word == words - 1, 0, word + 1))
        m.d.comb += [
            layer.i.valid.eq(self.i_valid),
            layer.i.payload.data.eq(self.i_data),
            layer.i.payload.first.eq(word == 0),
            layer.i.payload.last.eq(word == words - 1),
            self.i_ready.eq(layer.i.ready),
            layer.o.ready.eq(self.o_ready),
            self.o_valid.eq(layer.o.valid),
            self.o_data.eq(layer.o.payload.data),
            self.o_first.eq(layer.o.payload.first),
            self.o_last.eq(layer.o.payload.last),
            self.err.eq(layer.o.payload.err),
        ]
        return m


def dense(modulus, form="filter"):
    """A dense layer of 4 features and 2 neurons."""
    rng = np.random.default_rng(1)
    node = ir.Dense(
        name="fc", inputs=("x",), weight=rng.integers(-4, 4, (2, 4)),
        bias=np.array([3, -2]), weight_bits=3,
    )  # fmt: skip
    graph = ir.Graph("g", "x", (4,), ir.TensorType(2, False), (node,), "fc")
    return configure(graph, {"fc": Fold(2, 2)}, {"fc": Protection(modulus, form=form)})[0]


def deaf():
    """The checksum lane never complains."""
    elaborate = ChecksumLane.elaborate

    def masked(self, platform):
        m = elaborate(self, platform)
        m.d.comb += self.mismatch.eq(0)
        return m

    return mock.patch.object(ChecksumLane, "elaborate", masked)


def proof(text, config):
    return Proof(
        unit=f"checksum, {text}",
        struck="products, sums and accumulators",
        text="every beat equal, or flagged with it; no flag without an upset",
        claim=Claim(equal=("o_valid", "o_data", "o_first", "o_last"), flag="err", when="o_valid"),
        golden=lambda: Beats(config),
        chosen=roles("product", "accumulator"),
        method=DEPTH,
        broken=deaf,
        breakage="comparator tied off",
        broken_depth=DEPTH,
    )


KINDS = {"modulo 3": 3, "modulo 7": 7, "exact": "exact"}
PROOFS = [proof(kind, dense(modulus)) for kind, modulus in KINDS.items()]


@pytest.mark.slow
@pytest.mark.parametrize("proof", PROOFS, ids=name)
def test_holds(proof, tmp_path, report):
    answer, bits = prove(proof, tmp_path)

    report(proof, answer, bits)
    assert answer.proved


@pytest.mark.slow
@pytest.mark.parametrize("proof", PROOFS, ids=name)
def test_fails_when_it_is_broken(proof, tmp_path, report):
    cycles, intact = refute(proof, tmp_path)

    report(proof, cycles)
    assert intact == 0


@pytest.mark.slow
def test_an_accumulator_without_its_spare_bit_lets_an_upset_through(tmp_path):
    """A flip that wraps around changes the sum by 2^k - 2^n, which three can divide."""
    config = dense(3)
    narrow = proof("no spare bit", dataclasses.replace(config, acc_bits=config.acc_bits - 1))
    miter = narrow.miter(tmp_path, harm=True)

    found = bounded(miter, tmp_path, depth=DEPTH).counterexample

    assert found is not None
    assert wrong_cycles(miter, found, narrow.golden, narrow.golden)
