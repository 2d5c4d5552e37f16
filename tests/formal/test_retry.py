# amaranth: UnusedElaboratable=no
"""Retry: a group that an upset spoiled is computed again, and its frame leaves right."""

from unittest import mock

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tercet.hw.checksum import ChecksumLane
from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.site import Site
from tercet.hw.top import layer_component
from tercet.quant import ir

from .miter import Claim
from .proof import Proof, name, prove, refute, roles

CYCLES = 30
"""The frame is complete in cycle 12 without an upset, in 28 after a retry."""


class FirstFrame(wiring.Component):
    """A layer whose first frame is kept: its words, whether it is complete, whether it is flagged.

    Words come without a gap and leave as soon as they can; `late` from cycle CYCLES on.
    """

    def __init__(self, config):
        self.config, self.beats = config, config.groups_per_frame * config.beats
        window = config.window
        super().__init__(
            {
                "data": In(window.word * window.lane_bits),
                "kept": Out(self.beats * config.out_lanes * config.out_bits),
                "complete": Out(1),
                "flagged": Out(1),
                "late": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, site, words = self.config, Site("observer"), self.config.window.frame_words
        m.submodules.layer = layer = layer_component(config)
        word = site.register(range(words + 1), "word", "control")
        beat = site.register(range(self.beats + 1), "beat", "control")
        time = site.register(range(CYCLES + 1), "time", "control")
        kept = site.register(len(self.kept), "kept", "control")
        flagged = site.register(1, "flagged", "control")
        width = config.out_lanes * config.out_bits
        m.d.comb += [
            layer.i.valid.eq(word != words),
            layer.i.payload.data.eq(self.data),
            layer.i.payload.first.eq(word == 0),
            layer.i.payload.last.eq(word == words - 1),
            layer.o.ready.eq(1),
            self.kept.eq(kept),
            self.complete.eq(beat == self.beats),
            self.flagged.eq(flagged),
            self.late.eq(time == CYCLES),
        ]
        with m.If(layer.i.valid & layer.i.ready):
            m.d.sync += word.eq(word + 1)
        with m.If(layer.o.valid & (beat != self.beats)):
            m.d.sync += [
                beat.eq(beat + 1),
                kept.word_select(beat, width).eq(layer.o.payload.data),
                flagged.eq(flagged | layer.o.payload.err),
            ]
        with m.If(time != CYCLES):
            m.d.sync += time.eq(time + 1)
        return m


def dense(retry):
    """A dense layer of 4 features and 2 neurons."""
    node = ir.Dense(
        name="fc", inputs=("x",), weight=np.random.default_rng(1).integers(-4, 4, (2, 4)),
        bias=np.array([3, -2]), weight_bits=3,
    )  # fmt: skip
    graph = ir.Graph("g", "x", (4,), ir.TensorType(2, False), (node,), "fc")
    return configure(graph, {"fc": Fold(2, 2)}, {"fc": Protection(3, retry=retry)})[0]


def deaf():
    """The checksum lane never complains."""
    elaborate = ChecksumLane.elaborate

    def masked(self, platform):
        m = elaborate(self, platform)
        m.d.comb += self.mismatch.eq(0)
        return m

    return mock.patch.object(ChecksumLane, "elaborate", masked)


PROOFS = [
    Proof(
        unit="retry, modulo 3",
        struck="products, sums and accumulators",
        text="the frame leaves complete, right and not flagged",
        claim=Claim(equal=("kept", "complete", "flagged"), when="late"),
        golden=lambda: FirstFrame(dense(1)),
        chosen=roles("product", "accumulator"),
        method=CYCLES + 1,
        broken=deaf,
        breakage="comparator tied off",
        broken_depth=CYCLES + 1,
    )
]


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
