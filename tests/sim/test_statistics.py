"""Intervals against published values and by simulated coverage."""

import math

import numpy as np
import pytest

from tercet.sim.statistics import (
    Counts,
    Looks,
    clopper_pearson,
    cluster_interval,
    ratio,
    sample_size,
    stratified,
    vulnerable_bit_cycles,
    widest,
    wilson,
)


@pytest.mark.parametrize(
    ("events", "trials", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17, 1998, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_equals_the_published_intervals(events, trials, low, high):
    assert wilson(events, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("events", "trials", "low", "high"),
    [
        # The same, method 5.
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0000, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_clopper_pearson_equals_the_published_intervals(events, trials, low, high):
    assert clopper_pearson(events, trials) == pytest.approx((low, high), abs=5e-5)


def test_exact_interval_of_no_event_is_the_closed_form():
    assert clopper_pearson(0, 1000)[1] == pytest.approx(1 - 0.025 ** (1 / 1000))
    assert clopper_pearson(1000, 1000)[0] == pytest.approx(0.025 ** (1 / 1000))


@pytest.mark.parametrize("p", [0.004, 0.3])
def test_intervals_cover_the_truth(p):
    events = np.random.default_rng(5).binomial(500, p, 400).tolist()
    for interval, least in ((wilson, 0.92), (clopper_pearson, 0.95)):
        covered = [low <= p <= high for low, high in (interval(k, 500) for k in events)]

        assert np.mean(covered) >= least


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="cannot be"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence=1.0)


def test_sample_size_is_that_of_the_literature():
    assert sample_size(0.01) == 9604
    assert sample_size(0.01, 0.99) == 16588
    assert sample_size(0.01, population=10_000) == 4900
    with pytest.raises(ValueError, match="margin"):
        sample_size(0.0)


def test_vulnerable_bit_cycles_is_a_product():
    assert vulnerable_bit_cycles(0.01, 3000, 600) == pytest.approx(18000)


def test_cluster_interval_is_wider_than_wilson_when_inputs_differ():
    trials = np.full(40, 500)
    even, uneven = np.full(40, 25), np.repeat([0, 50], 20)
    wide, narrow = (cluster_interval(Counts(e, trials)) for e in (uneven, even))
    low, high = wilson(1000, 20000)

    assert wide[1] - wide[0] > 2 * (high - low)
    assert narrow == (0.05, 0.05)


def test_ratio_scales_and_covers():
    rng, inside = np.random.default_rng(7), 0
    trials = np.full(32, 300)
    for seed in range(60):
        p = rng.beta(2, 38, 32)
        a, b = (Counts(rng.binomial(trials, f * p), trials, s) for f, s in ((0.2, 30.0), (1, 10.0)))
        found = ratio(a, b, paired=True, seed=seed)
        inside += found.low <= 0.6 <= (found.high or math.inf)

    assert inside >= 51


def test_pairing_the_inputs_narrows_the_ratio():
    trials, rng = np.full(32, 2000), np.random.default_rng(8)
    p = rng.uniform(0.01, 0.2, 32)
    a, b = (Counts(rng.binomial(trials, f * p), trials) for f in (0.5, 1.0))
    paired, free = (ratio(a, b, paired=flag) for flag in (True, False))

    assert paired.value == free.value
    assert paired.high - paired.low < (free.high - free.low) / 2


def test_a_ratio_with_few_events_keeps_an_honest_width():
    trials = np.full(32, 100)
    none, some = np.zeros(32, int), np.full(32, 2)
    down = ratio(Counts(none, trials), Counts(some, trials), paired=True)
    up = ratio(Counts(some, trials), Counts(none, trials), paired=True)

    assert down.value == 0
    assert down.low == 0
    assert 0.01 < down.high < 0.2
    assert up.value is None
    assert up.high is None
    assert up.low > 5


def test_paired_campaigns_need_equal_inputs():
    one, two = (Counts(np.ones(n, int), np.full(n, 9)) for n in (3, 4))

    with pytest.raises(ValueError, match="same inputs"):
        ratio(one, two, paired=True)


def test_nothing_is_unknown_of_a_population_that_was_run_whole():
    assert wilson(3, 100, population=100) == (0.03, 0.03)
    wide, narrow = wilson(30, 1000), wilson(30, 1000, population=1500)
    assert narrow[1] - narrow[0] == pytest.approx((wide[1] - wide[0]) / math.sqrt(3), rel=0.02)


def test_intervals_of_samples_without_replacement_cover():
    rng, population = np.random.default_rng(6), 2000
    events = rng.hypergeometric(100, population - 100, 1000, 400).tolist()
    covered = [low <= 0.05 <= high for low, high in (wilson(k, 1000, 0.95, 2000) for k in events)]

    assert 0.92 <= np.mean(covered) <= 0.98


def test_strata_are_weighted_by_their_sizes_and_cover():
    sizes, p = np.array([100_000, 20_000, 1_000]), np.array([0.001, 0.05, 0.6])
    trials, truth = np.array([500, 500, 50]), float((sizes * p).sum() / sizes.sum())
    rng, covered, values = np.random.default_rng(9), [], []
    for _ in range(300):
        value, low, high = stratified(rng.binomial(trials, p), trials, sizes)
        covered.append(low <= truth <= high)
        values.append(value)

    assert np.mean(values) == pytest.approx(truth, rel=0.05)
    assert np.mean(covered) >= 0.92


def test_strata_narrow_the_interval_where_they_explain_the_rate():
    sizes, trials = np.array([5000, 5000]) * 100, np.array([500, 500])
    events = np.array([5, 495])
    value, low, high = stratified(events, trials, sizes)
    wide = wilson(500, 1000)

    assert value == pytest.approx(0.5)
    assert high - low < (wide[1] - wide[0]) / 2


def test_the_largest_look_always_reaches_the_margin():
    for margin in (0.05, 0.01):
        looks = Looks(margin)
        sizes = looks.sizes

        assert sizes == sorted(sizes)
        assert len(sizes) == looks.number
        assert all(looks.enough(k, sizes[-1]) for k in (0, sizes[-1] // 3, sizes[-1] // 2))
        assert not looks.enough(sizes[4] // 2, sizes[4])


@pytest.mark.parametrize("p", [0.01, 0.2])
def test_an_interval_that_was_waited_for_covers(p):
    rng, looks, covered, ends = np.random.default_rng(11), Looks(0.05, confidence=0.9), [], set()
    for _ in range(200):
        draws = np.cumsum(rng.random(looks.sizes[-1]) < p)
        for size in looks.sizes:
            events = int(draws[size - 1])
            if looks.enough(events, size):
                break
        low, high = looks.interval(events, size)
        ends.add(size)
        covered.append(low <= p <= high)

    assert np.mean(covered) >= 0.9
    assert min(ends) < looks.sizes[-1]


def test_the_widest_interval_of_no_event_is_that_of_the_faults():
    low, high = wilson(0, 1000)
    rate = {"low": low, "high": high, "low_inputs": 0.0, "high_inputs": 0.0}

    assert widest(rate) == (low, high)
    assert high > 0.003


def test_the_widest_interval_of_unlike_inputs_is_that_of_the_inputs():
    rate = {"low": 0.2, "high": 0.3, "low_inputs": 0.1, "high_inputs": 0.4}

    assert widest(rate) == (0.1, 0.4)
