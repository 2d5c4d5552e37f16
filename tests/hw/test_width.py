# amaranth: UnusedElaboratable=no
"""Width converters: order, marks, flags, stalls, and the chain for any pair of widths."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, flipped

from tercet.hw.site import Site
from tercet.hw.stream import beat_layout, beat_stream
from tercet.hw.width import Gather, Split, connect_streams, converters


class Joined(wiring.Component):
    """Streams of a and b lanes of 4 bits, joined by converters."""

    def __init__(self, a, b, *, control="none"):
        self.lanes, self.control = (a, b), control
        super().__init__({"i": In(beat_stream(a, 4)), "o": Out(beat_stream(b, 4))})

    def elaborate(self, platform):
        m = Module()
        i, o = flipped(self.i), flipped(self.o)
        connect_streams(m, i, o, self.lanes, 4, "to_x", control=self.control)
        return m


PAIRS = [(1, 3), (4, 1), (2, 4), (6, 2), (2, 3), (3, 2), (4, 6)]


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("seed", [None, 4])
@pytest.mark.parametrize("control", ["none", "parity", "tmr"])
def test_elements_keep_their_order(bench, a, b, seed, control):
    x = np.random.default_rng(a + b).integers(0, 16, (4, 24))

    run = bench.run_stream(Joined(a, b, control=control), bench.pack(x, a, 4), seed=seed)

    assert (bench.elements(run.data, b, 4, signed=False) == x).all()


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_a_converter_takes_no_cycle_of_its_own(bench, a, b):
    x = np.zeros((3, 24), int)

    run = bench.run_stream(Joined(a, b), bench.pack(x, a, 4))

    narrow = 24 // min(a, b)
    assert run.last_cycles[0] <= 24 // a + 24 // b
    if len(converters(a, b)) == 1:
        assert np.diff(run.last_cycles).tolist() == [narrow, narrow]
    if b % a == 0:
        assert run.last_cycles[0] == narrow - 1


@pytest.mark.parametrize(("a", "b"), [(1, 4), (4, 1), (2, 3)])
@pytest.mark.parametrize("beat", [0, 1, 5])
def test_a_flag_stays_with_its_frame(bench, a, b, beat):
    x = np.zeros((3, 24), int)

    run = bench.run_stream(Joined(a, b), bench.pack(x, a, 4), flag=(1, beat))

    assert run.flagged == [False, True, False]


def test_a_first_beat_restarts_the_count(bench, registers):
    """An upset of the count shifts no later frame."""
    x = np.random.default_rng(0).integers(0, 16, (6, 12))

    def upsets():
        return [bench.Upset(next(r for r in registers if r.name == "count"), 0, 13)]

    run = bench.run_stream(Gather(1, 4, 3, Site("x")), bench.pack(x, 1, 4), upsets=upsets, limit=99)

    assert run.landed == 1
    whole = [frame for frame in run.data if len(frame) == 4]
    assert bench.elements(whole[-3:], 3, 4, signed=False).tolist() == x[3:].tolist()


def test_converters_of_every_pair():
    for a in range(1, 9):
        for b in range(1, 9):
            lanes = a
            for kind, width, ratio in converters(a, b):
                assert width == lanes
                lanes = lanes * ratio if kind is Gather else lanes // ratio
            assert lanes == b
            assert len(converters(a, b)) == (a != b) + (a % b != 0 and b % a != 0)


@pytest.mark.parametrize("ratio", [0, 1])
def test_a_ratio_is_at_least_two(ratio):
    with pytest.raises(ValueError, match=f"ratio must be >= 2, not {ratio}"):
        Gather(2, 4, ratio, Site("x"))
    with pytest.raises(ValueError, match=f"ratio must be >= 2 and divide 2 lanes, not {ratio}"):
        Split(2, 4, ratio, Site("x"))


def test_a_split_divides_its_lanes():
    with pytest.raises(ValueError, match="divide 4 lanes, not 3"):
        Split(4, 4, 3, Site("x"))


def test_a_code_travels_with_its_element(bench):
    assert beat_layout(3, 4, 2)["code"].width == 6
    assert "code" not in beat_layout(3, 4).members
    for unit, lanes in ((Gather(1, 4, 2, Site("x"), code_bits=3), 2),
                        (Split(2, 4, 2, Site("x"), code_bits=3), 1)):  # fmt: skip
        assert len(unit.o.payload.code) == 3 * lanes


@pytest.mark.parametrize(("lanes", "bits", "code"), [(0, 4, 0), (1, 0, 0), (1, 4, -1)])
def test_a_beat_has_positive_sizes(lanes, bits, code):
    with pytest.raises(ValueError, match=f"beat of {lanes} lanes of {bits}"):
        beat_layout(lanes, bits, code)
