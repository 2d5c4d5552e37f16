"""Checkers, without a simulator."""

from typing import Any

import numpy as np
import pytest

from tercet.sim.checker import Checker, Outcome, flagged
from tercet.sim.manifest import Stream

NAMES = {"valid": "v", "ready": "r", "data": "d", "first": "f", "last": "l", "err": "e"}
FRAMES = np.arange(16).reshape(2, 2, 4) - 3


def layout(**changes: Any) -> Stream:
    parts: dict[str, Any] = {"lanes": 2, "lane_bits": 8, "signed": True, "beats": 4}
    return Stream(**NAMES, **(parts | {"shape": (2, 4), "permutation": (3, 1, 0, 2)} | changes))


def checker() -> Checker:
    return Checker("conv", layout(), layout().pack(FRAMES))


def beats() -> list[int]:
    return list(flagged(layout(), layout().pack(FRAMES)))


def play(words: list[int]) -> Checker:
    result = checker()
    for cycle, word in enumerate(words):
        result.beat(word, cycle)
    return result


def test_right_beats_pass() -> None:
    found = play(beats())

    assert (found.wrong, found.finished, found.ends) == (0, True, [3, 7])


def test_markers_lie_above_the_data() -> None:
    assert [beat >> 16 for beat in beats()] == [1, 0, 0, 2, 1, 0, 0, 2]


def test_wrong_element_is_named_in_the_models_order() -> None:
    words = beats()
    words[6] ^= 0x100
    found = play(words)

    # Frame 1, beat 2 is row 1; its lane 1 carries channel 1.
    assert [str(m) for m in found.mismatches] == ["conv: frame 1, element [1, 1]: got 11, not 10"]


def test_a_wrong_bipolar_element_is_shown_as_a_sign() -> None:
    bits = layout(lane_bits=1, bipolar=True)
    frames = np.where(FRAMES > 4, 1, -1)
    words = list(flagged(bits, bits.pack(frames)))
    found = Checker("conv", bits, bits.pack(frames))
    found.beat(words[0] ^ 2, 0)

    assert [str(m) for m in found.mismatches] == ["conv: frame 0, element [0, 1]: got 1, not -1"]


def test_negative_elements_are_shown_signed() -> None:
    words = beats()
    words[1] ^= 0x80
    found = play(words)

    assert (found.mismatches[0].got, found.mismatches[0].expected) == (125, -3)


@pytest.mark.parametrize("bit", [16, 17, 18])
def test_wrong_marker_is_named(bit: int) -> None:
    words = beats()
    words[2] ^= 1 << bit
    found = play(words)

    assert found.wrong == 1
    assert "frame 0, markers: got first=" in str(found.mismatches[0])


def test_beat_too_many_is_wrong() -> None:
    found = play([*beats(), 0])

    assert "got a beat, not no beat" in str(found.mismatches[0])


def test_missing_beat_leaves_it_unfinished() -> None:
    found = play(beats()[:-1])
    outcome = Outcome(9, True, (), (), (found,))

    assert not outcome.passed
    assert "unfinished: conv" in outcome.report()["report"][-1]


def test_only_ten_mismatches_are_listed() -> None:
    found = play([beat ^ 0xFFFF for beat in beats()])

    assert found.wrong == 16
    assert len(found.mismatches) == 10


def test_changed_offer_fails_an_outcome() -> None:
    outcome = Outcome(9, False, ("conv",), (), (play(beats()),))

    assert not outcome.passed
    assert outcome.report()["report"] == ["conv: an offered beat was changed or withdrawn"]


def test_a_word_is_explained_by_its_number() -> None:
    found = checker()
    found.explain(6, beats()[6] ^ 0x100)
    found.explain(8, 0)

    assert [str(m) for m in found.mismatches] == [
        "conv: frame 1, element [1, 1]: got 11, not 10",
        "conv: frame 2, markers: got a beat, not no beat",
    ]
