# amaranth: UnusedElaboratable=no
"""Codes that travel with words: what is upset while it waits is seen where it is used."""

import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tercet.hw import codes
from tercet.hw.code_words import code_bits
from tercet.hw.site import Site
from tercet.hw.width import Gather

from .miter import Claim, one_bit_deviates
from .proof import Proof, name, prove, refute, unchecked

BITS = 3


class Travel(wiring.Component):
    """Words get their codes, two are gathered into one, and that one is checked."""

    def __init__(self, kind):
        self.kind = kind
        inputs = {"i_valid": In(1), "i_first": In(1), "i_data": In(BITS), "o_ready": In(1)}
        outputs = {"o_valid": Out(1), "o_data": Out(2 * BITS), "wrong": Out(1)}
        super().__init__({**inputs, **outputs, "half": Out(1), "exact": Out(1)})

    def elaborate(self, platform):
        m = Module()
        size = code_bits(self.kind, BITS)
        m.submodules.gather = unit = Gather(1, BITS, 2, Site("x"), code_bits=size)
        beat, out = unit.i.payload, unit.o.payload
        half = Site("observer").register(1, "half", "control")
        with m.If(unit.i.valid & unit.i.ready):
            m.d.sync += half.eq(~half | self.i_first)
        word, wrong = codes.check_word(m, self.kind, out.data, out.code, BITS)
        m.d.comb += [
            unit.i.valid.eq(self.i_valid),
            beat.first.eq(self.i_first),
            beat.data.eq(self.i_data),
            beat.code.eq(codes.encode_word(m, self.kind, self.i_data, BITS)),
            unit.o.ready.eq(self.o_ready),
            self.o_valid.eq(unit.o.valid),
            self.o_data.eq(word),
            self.wrong.eq(wrong),
            self.half.eq(half),
            self.exact.eq(codes.encode_word(m, self.kind, out.data, BITS) == out.code),
        ]
        return m


def what_waits_is_right(view):
    """While a word waits it belongs to its code, and the converter counts it; control is equal."""
    waits = view.outputs["half"]
    counted = view.golden["gather.count"] == waits
    control = Cat(view.deviation(r, s) for r, s in view.faulty if not waiting(r)).any()
    return one_bit_deviates(view) & counted & ~control & (~waits | view.outputs["exact"])


def waiting(register):
    """A word that waits, or its code."""
    return register.role == "fifo"


def proof(kind):
    corrects = kind == "secded"
    flagged = Claim(equal=("o_data",), flag="wrong", when="o_valid")
    return Proof(
        unit=f"stream code {kind}, through a converter",
        struck="waiting word and its code",
        text="word right, no complaint" if corrects else "word right or flagged, none without",
        claim=Claim(equal=("o_data", "wrong"), when="o_valid") if corrects else flagged,
        golden=lambda: Travel(kind),
        chosen=waiting,
        invariant=what_waits_is_right,
        broken=unchecked,
        breakage="word not checked",
    )


PROOFS = [proof(kind) for kind in ("parity", "residue", "secded")]


@pytest.mark.parametrize("proof", PROOFS, ids=name)
def test_holds(proof, tmp_path, report):
    answer, bits = prove(proof, tmp_path)

    report(proof, answer, bits)
    assert answer.proved


@pytest.mark.parametrize("proof", PROOFS, ids=name)
def test_fails_when_it_is_broken(proof, tmp_path, report):
    cycles, intact = refute(proof, tmp_path)

    report(proof, cycles)
    assert intact == 0
