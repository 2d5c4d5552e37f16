"""Quantisers as step functions: against brute force over accumulators."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tercet.quant import reference
from tercet.quant.importers.qonnx_steps import (
    Line,
    Steps,
    Uniform,
    compare,
    integer_steps,
    limits,
    requantize_steps,
)
from tercet.quant.ir import Requantize, TensorType, Thresholds

from .qonnx_models import ROUND

ACC = np.arange(-60, 61)
LO, HI = np.array([-60]), np.array([60])


def _quantiser(mode: str, bits: int = 4, zero: int = 1, narrow: int = 0) -> Uniform:
    kind = TensorType(bits, True, zero)
    return Uniform(kind, Fraction(3, 2), kind.lo + narrow, kind.hi, mode)


@pytest.mark.parametrize("mode", sorted(ROUND))
@pytest.mark.parametrize("narrow", [0, 1])
def test_integer_steps_equal_the_rounding_rule(mode: str, narrow: int) -> None:
    rule = _quantiser(mode, narrow=narrow)
    line = Line(Fraction(1, 8), Fraction(-3, 4))  # ties included
    y = np.clip((ACC / 8 - 0.75) / 1.5 + 1, rule.lo, rule.hi)

    table = Thresholds(integer_steps(rule, [line], LO, HI), rule.kind)

    assert (reference.thresholds(table, ACC[:, None])[:, 0] == ROUND[mode](y)).all()


@pytest.mark.parametrize("mode", sorted(ROUND))
def test_apply_equals_the_rounding_rule(mode: str) -> None:
    rule = _quantiser(mode)
    ys = [Fraction(n, 8) for n in range(-100, 101)]
    wanted = [ROUND[mode](np.clip(float(y) / 1.5 + 1, rule.lo, rule.hi)) for y in ys]

    assert [rule.apply(0, y) for y in ys] == wanted


def test_clamps_move_into_the_steps() -> None:
    rule = _quantiser("ROUND")
    line = Line(Fraction(1, 2), low=Fraction(-2), high=Fraction(5))

    table = Thresholds(integer_steps(rule, [line], LO, HI), rule.kind)

    wanted = np.rint(np.clip(ACC / 2, -2, 5) / 1.5 + 1)
    assert (reference.thresholds(table, ACC[:, None])[:, 0] == wanted).all()
    assert limits(rule, 0, line) == (wanted.min(), wanted.max())


@pytest.mark.parametrize("gain", [Fraction(2), Fraction(-1, 3), Fraction(0)])
def test_lines_compose(gain: Fraction) -> None:
    line = Line(Fraction(1, 4), Fraction(1)).clamp(Fraction(-2), Fraction(3))

    made = line.affine(gain, Fraction(5)).clamp(Fraction(1), Fraction(7))

    for acc in range(-30, 31):
        inner = min(max(Fraction(acc, 4) + 1, -2), 3)
        assert made.at(acc) == min(max(inner * gain + 5, 1), 7)


def test_steps_of_thresholds_are_themselves() -> None:
    kind = TensorType(2, False)
    rule = Steps(kind, Fraction(1), 0, 3, ((Fraction(-7), Fraction(1, 3), Fraction(9)),))

    found = integer_steps(rule, [Line(Fraction(1, 2), Fraction(1))], LO, HI)

    assert found.tolist() == [[-16, -1, 16]]
    assert [rule.apply(0, Fraction(y)) for y in (-8, -7, 0, 9)] == [0, 1, 1, 3]


@pytest.mark.parametrize(
    ("multiplier", "shift", "bias"), [(5, 6, 3), (1, 3, -4), (0, 2, 0), (9, 0, 1)]
)
def test_requantize_steps_equal_the_reference(multiplier: int, shift: int, bias: int) -> None:
    kind = TensorType(6, True, 2)
    table = Requantize(np.array([multiplier]), np.array([shift]), kind, 24, -20, 25)

    rows = requantize_steps(table, np.array([bias]), LO, HI)

    counted = kind.lo + (ACC[:, None] >= rows[0]).sum(1)
    assert (counted == reference.requantize(table, ACC[:, None] + bias)[:, 0]).all()


def test_compare_counts_differing_accumulators() -> None:
    a, b = np.array([[-5, 0, 10, 40], [1, 2, 3, 4]]), np.array([[-5, 2, 4, 61], [1, 2, 3, 4]])
    lo, hi = np.array([-60, 0]), np.array([60, 9])
    first, second = ((ACC[:, None] >= rows[0]).sum(1) for rows in (a, b))

    found = compare(a, b, lo, hi)

    assert found.share == (first != second).sum() / 46 / 2  # steps from -5 to 40, in one of two
    assert found.largest == np.abs(first - second).max()
