# amaranth: UnusedElaboratable=no
"""Codes of a word: what tables hold is what logic makes; what each kind sees and corrects."""

import itertools

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from tercet.hw.code_words import CODES, code_bits, data_positions, encode_int
from tercet.hw.codes import check, encode

KINDS = CODES[1:]


class Coder(wiring.Component):
    """Encodes `value`; checks it against `code`."""

    def __init__(self, kind, width):
        self.kind = kind
        bits = code_bits(kind, width)
        ports = {"value": In(width), "code": In(bits)}
        super().__init__({**ports, "made": Out(bits), "right": Out(width), "wrong": Out(1)})

    def elaborate(self, platform):
        m = Module()
        right, wrong = check(m, self.kind, self.value, self.code)
        m.d.comb += [
            self.made.eq(encode(m, self.kind, self.value)),
            self.right.eq(right),
            self.wrong.eq(wrong),
        ]
        return m


def answers(kind, width, pairs):
    """(made, right, wrong) for each (value, code)."""
    unit, found = Coder(kind, width), []

    async def testbench(ctx):
        for value, code in pairs:
            ctx.set(unit.value, value)
            ctx.set(unit.code, code)
            await ctx.delay(1e-9)
            found.append((ctx.get(unit.made), ctx.get(unit.right), ctx.get(unit.wrong)))

    sim = Simulator(unit)
    sim.add_testbench(testbench)
    sim.run()
    return found


def flipped(kind, width, value, places):
    """Value and code after flips of bits of both, the code's above the value's."""
    word = value | encode_int(kind, value, width) << width
    for place in places:
        word ^= 1 << place
    return word & ((1 << width) - 1), word >> width


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_logic_makes_the_code_of_the_table_and_finds_nothing_wrong(kind, width):
    values = range(1 << width)
    codes = [encode_int(kind, value, width) for value in values]

    found = answers(kind, width, list(zip(values, codes, strict=True)))

    assert found == [(code, value, 0) for value, code in zip(values, codes, strict=True)]


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_every_single_flip_is_seen_or_corrected(kind, width):
    size = width + code_bits(kind, width)
    cases = list(itertools.product(range(1 << width), range(size)))

    found = answers(kind, width, [flipped(kind, width, v, [place]) for v, place in cases])

    if kind == "secded":
        assert [(right, wrong) for _, right, wrong in found] == [(v, 0) for v, _ in cases]
    else:
        assert {wrong for _, _, wrong in found} == {1}


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_every_double_flip_is_seen_by_secded(width):
    places = itertools.combinations(range(width + code_bits("secded", width)), 2)
    cases = list(itertools.product(range(1 << width), places))

    found = answers("secded", width, [flipped("secded", width, *case) for case in cases])

    assert {wrong for _, _, wrong in found} == {1}


@pytest.mark.parametrize("kind", ["parity", "residue"])
def test_a_code_is_no_copy_of_the_bit(kind):
    assert [encode_int(kind, bit, 1) for bit in (0, 1)] == [1, 0]


def test_negative_values_are_encoded_in_twos_complement():
    assert encode_int("residue", -3, 4) == 13 % 3
    assert encode_int("secded", -1, 4) == encode_int("secded", 15, 4)


def test_places_of_a_hamming_code_skip_the_powers_of_two():
    assert data_positions(11) == (3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15)
    assert [code_bits("secded", n) for n in (1, 4, 8, 11, 26, 57)] == [3, 4, 5, 5, 6, 7]


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="unknown code 'crc'"):
        code_bits("crc", 8)
