"""The exact choice: equal to trying every combination."""

import itertools

import numpy as np
import pytest

from tercet.flow.harden.choose import choose, undominated


def brute_force(groups):
    """Undominated (cost, left) of all combinations."""
    sums = sorted(
        (sum(pair[0] for pair in pick), sum(pair[1] for pair in pick))
        for pick in itertools.product(*groups)
    )
    found = []
    for cost, left in sums:
        if not found or left < found[-1][1]:
            found.append((cost, left))
    return found


@pytest.mark.parametrize("seed", range(25))
def test_front_is_that_of_all_combinations(seed):
    rng = np.random.default_rng(seed)
    groups = [
        [
            (int(cost), float(left))
            for cost, left in zip(rng.integers(0, 30, n), rng.integers(0, 50, n), strict=True)
        ]
        for n in rng.integers(1, 5, rng.integers(1, 6))
    ]

    found = [(choice.cost, choice.left) for choice in choose(groups)]

    assert found == brute_force(groups)


def test_options_make_the_cost_and_what_is_left():
    groups = [[(0, 9.0), (4, 2.0), (9, 0.0)], [(0, 5.0), (3, 1.0)]]
    for choice in choose(groups):
        pairs = [group[i] for group, i in zip(groups, choice.options, strict=True)]

        assert choice.cost == sum(pair[0] for pair in pairs)
        assert choice.left == sum(pair[1] for pair in pairs)


def test_dominated_options_are_never_chosen():
    group = [(0, 5.0), (3, 5.0), (2, 4.0), (7, 4.5), (8, 1.0)]

    assert undominated(group) == [0, 2, 4]
    assert {choice.options[0] for choice in choose([group])} == {0, 2, 4}


def test_coarse_costs_never_say_too_little():
    """With fewer steps than the costs tell apart, the sums are still those of the options."""
    rng = np.random.default_rng(4)
    groups = [
        [(0, 10.0), *((int(c), float(v)) for c, v in zip(cs, vs, strict=True))]
        for cs, vs in zip(rng.integers(1, 9999, (6, 4)), rng.integers(0, 10, (6, 4)), strict=True)
    ]
    exact = brute_force(groups)

    for choice in choose(groups, steps=200):
        best = min(left for cost, left in exact if cost <= choice.cost)
        assert choice.left >= best
    assert choose(groups, steps=200)[-1].left == exact[-1][1]


@pytest.mark.parametrize("groups", [[[]], [[(0, 1.0)], [(-1, 0.0), (2, 1.0)]]])
def test_empty_groups_and_negative_costs_are_refused(groups):
    with pytest.raises(ValueError, match="needs an option"):
        choose(groups)
