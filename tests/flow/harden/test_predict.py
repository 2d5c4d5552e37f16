"""Predictions and options of the small network from a known table."""

import numpy as np
import pytest

from tercet.flow.harden.front import front
from tercet.flow.harden.options import candidates, plan_guards
from tercet.flow.plan import protect
from tercet.hw.fold import UNPROTECTED, Protection
from tercet.quant.errors import InputError


def test_the_plain_design_costs_nothing_and_keeps_everything(predictor):
    found = predictor.predict({})

    assert found.overhead == 0
    assert found.ratio == pytest.approx(1)


def test_a_protection_takes_off_what_it_covers(predictor):
    """Parity leaves a fifth of the control of one of four layers."""
    found = predictor.left(predictor.design({"conv": Protection(control="parity")}))

    assert found["conv", "control"] == pytest.approx(60 * 20.5 / 1001 / 0.1)
    assert found["pool", "control"] == 60
    assert found["conv", "added"] > 0


def test_a_checksum_covers_sums_and_products_of_its_layer(predictor):
    found = predictor.left(predictor.design({"hidden": Protection(modulus=3)}))

    assert found["hidden", "product"] == pytest.approx(20 * 0.5 / 1001 / 0.04)
    assert found["hidden", "weight"] == pytest.approx(10 * 10.5 / 1001 / 0.03)
    assert found["conv", "product"] == 20


def test_neurons_take_off_the_risk_of_their_lanes(predictor):
    """`conv` has two lanes: 3 of 6 neurons, and the scores of those of the upper lane."""
    guard = Protection(neurons=(3, 4, 5))
    found = predictor.left(predictor.design({"conv": guard}))
    rest = (0 + 1 + 2) / 15

    assert found["conv", "product"] == pytest.approx(20 * rest, abs=20 * (1 - rest) * 0.05)


def test_what_was_not_measured_is_not_predicted(predictor):
    with pytest.raises(InputError, match="post dup was not measured"):
        predictor.left(predictor.design({"conv": Protection(post="dup")}))


def test_candidates_offer_what_was_measured_and_nothing_dominated(predictor):
    groups = candidates(predictor)
    fields = {key for group in groups for one in group.options for key in one.fields}

    assert fields <= {"control", "modulus", "neurons"}
    assert "control" in fields
    for group in groups:
        areas = [option.area for option in group.options]
        left = [option.left for option in group.options]
        assert areas == sorted(areas)
        assert left == sorted(left, reverse=True)
        assert not group.options[0].fields


def test_no_option_is_better_at_no_more_area(predictor):
    """The front against a random choice of options."""
    groups = candidates(predictor)
    points = front(predictor)
    rng = np.random.default_rng(0)
    best = [(p.predicted.area, p.predicted.ratio) for p in points]
    for _ in range(40):
        options = [int(rng.integers(len(group.options))) for group in groups]
        found = predictor.predict(plan_guards(groups, options))
        reached = min(ratio for area, ratio in best if area <= found.area * 1.01)

        assert reached <= found.ratio * 1.05


def test_the_front_starts_plain_and_falls(predictor):
    points = front(predictor)
    ratios = [point.predicted.ratio for point in points]

    assert points[0].predicted.ratio == pytest.approx(1)
    assert set(points[0].guards.values()) == {UNPROTECTED}
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] < 0.15


def test_the_plan_of_a_point_gives_its_protections(predictor):
    for point in front(predictor)[::7]:
        assert protect(point.plan, predictor.graph, None) == point.guards
