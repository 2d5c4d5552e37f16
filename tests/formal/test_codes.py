# amaranth: UnusedElaboratable=no
"""Words with a check code: a flipped bit is seen where the word is used, or corrected."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tercet.hw import codes
from tercet.hw.code_words import code_bits
from tercet.hw.site import Site

from .miter import Claim, one_bit_deviates
from .proof import Proof, name, prove, refute, unchecked

WIDTHS, FAST = (1, 2, 3, 5, 8), (1, 5)
SITE = Site("x")


class CodedWord(wiring.Component):
    """A word and its code in registers, encoded when `load` is set and checked where it is read."""

    def __init__(self, kind, width):
        self.kind, self.width = kind, width
        outputs = {"q": Out(width), "wrong": Out(1), "valid": Out(1)}
        super().__init__({"load": In(1), "d": In(width), **outputs})

    def elaborate(self, platform):
        m = Module()
        word = SITE.register(self.width, "word", "window")
        code = SITE.register(code_bits(self.kind, self.width), "code", "window")
        valid = SITE.register(1, "valid", "control")
        with m.If(self.load):
            m.d.sync += [word.eq(self.d), code.eq(codes.encode(m, self.kind, self.d)), valid.eq(1)]
        value, wrong = codes.check(m, self.kind, word, code)
        m.d.comb += [self.q.eq(value), self.wrong.eq(wrong & valid), self.valid.eq(valid)]
        return m


def struck(register):
    return register.role == "window"


def code_is_right(view):
    """The golden copy's word and code belong together; one bit at most differs from them."""
    return one_bit_deviates(view) & ~view.outputs["wrong"]


def proof(kind, width):
    corrects = kind == "secded"
    seen = Claim(equal=("q",), flag="wrong", when="valid")
    return Proof(
        unit=f"{kind} of {width} bits",
        struck="word and code",
        text="word right, no complaint" if corrects else "word right or flagged, none without",
        claim=Claim(equal=("q", "wrong"), when="valid") if corrects else seen,
        golden=lambda: CodedWord(kind, width),
        chosen=struck,
        invariant=code_is_right,
        broken=unchecked,
        breakage="word not checked",
    )


PROOFS = [
    pytest.param(proof(kind, width), marks=() if width in FAST else pytest.mark.slow)
    for kind in ("parity", "residue", "secded")
    for width in WIDTHS
]


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
