"""Rounds against a bench whose measurements are known."""

import pytest

from tercet.flow.harden.front import Point
from tercet.flow.harden.predict import Prediction
from tercet.flow.harden.rounds import within_budget, within_ratio
from tercet.hw.fold import Protection
from tercet.quant.errors import InputError

POINTS = [
    Point(
        (),
        (i,),
        {"fc": Protection(modulus=3, retry=i)},
        False,
        Prediction(100 + 2 * i, 0.02 * i, 1 / (1 + i)),
    )
    for i in range(11)
]


class Bench:
    """Areas are `factor` of the predicted overhead, ratios of the predicted ratio."""

    def __init__(self, area=1.0, ratio=1.0):
        self.factors, self.built = (area, ratio), []

    def build(self, plan):
        self.built.append(plan.layers["fc"].checksum.retry)

    @property
    def point(self):
        return POINTS[self.built[-1]].predicted

    def overhead(self):
        return {"overhead": self.point.overhead * self.factors[0]}

    def ratio(self):
        value = self.point.ratio * self.factors[1]
        ratio = {"value": value, "low": 0.9 * value, "high": 1.1 * value, "confidence": 0.95}
        return {"ratio": ratio}


def test_the_best_plan_within_the_budget_is_taken():
    bench = Bench()
    outcome = within_budget(POINTS, 0.1, bench)

    assert outcome.point is POINTS[5]
    assert outcome.measured["overhead"] == pytest.approx(0.1)
    assert len(outcome.rounds) == 1


def test_a_budget_that_the_measurement_misses_is_tightened():
    """The estimate says half of what synthesis finds."""
    bench = Bench(area=2)
    outcome = within_budget(POINTS, 0.1, bench)

    assert outcome.point is POINTS[2]
    assert outcome.measured["overhead"] <= 0.1
    assert [one["measured_overhead"] for one in outcome.rounds] == pytest.approx([0.2, 0.08])
    assert bench.built[-1] == 2


def test_a_budget_that_is_not_used_up_is_tried_again():
    outcome = within_budget(POINTS, 0.1, Bench(area=0.5))

    assert outcome.point is POINTS[10]


def test_a_budget_below_the_smallest_protection_is_bad_input():
    with pytest.raises(InputError, match=r"--budget 1%.*smallest possible overhead is 2.00%"):
        within_budget(POINTS, 0.01, Bench())


def test_a_budget_that_no_measurement_meets_is_bad_input():
    with pytest.raises(InputError, match=r"smallest possible overhead is 10.00% \(measured\)"):
        within_budget(POINTS, 0.03, Bench(area=5))


def test_the_cheapest_plan_that_reaches_the_ratio_is_taken():
    """1/(1+4) = 0.2, its limit 0.22."""
    outcome = within_ratio(POINTS, 0.2201, Bench())

    assert outcome.point is POINTS[4]
    assert outcome.failure is None
    assert outcome.measured["overhead"] == pytest.approx(0.08)


def test_the_upper_limit_is_judged():
    """1/(1+4) reaches 0.2, its limit does not; the next round is stricter."""
    outcome = within_ratio(POINTS, 0.2, Bench())

    assert outcome.failure is None
    assert outcome.measured["ratio"]["high"] <= 0.2
    assert outcome.point.predicted.ratio < 0.2


def test_a_ratio_out_of_reach_fails_with_the_lowest_and_its_cost():
    outcome = within_ratio(POINTS, 0.05, Bench())

    assert outcome.point is POINTS[-1]
    assert "--target-ratio 0.05: the lowest ratio reached is 0.0909" in outcome.failure
    assert "at +20.0% area" in outcome.failure


def test_a_limit_that_only_faults_can_narrow_says_so():
    outcome = within_ratio(POINTS, 0.095, Bench())

    assert "more --faults narrow the limit" in outcome.failure
