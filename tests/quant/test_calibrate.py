"""Ranges from data, and the types made from them."""

import numpy as np
import pytest

from tercet.quant import float_graph as fg
from tercet.quant.calibrate import Statistics, check_calibration, collect, squared_error
from tercet.quant.errors import InputError
from tercet.quant.ir import TensorType
from tercet.quant.scales import activation_type, fit, power_of_two, range_type, weight_scales


def dense(weight, **fields):
    weight = np.asarray(weight, dtype=np.float64)
    node = fg.Dense(
        name="fc",
        inputs=("x",),
        shape=(len(weight),),
        path="fc",
        weight=weight,
        bias=np.zeros(len(weight)),
        **fields,
    )
    return fg.FloatGraph("net", "x", (weight.shape[1],), (node,), "fc")


def normal(count=200_000):
    values = np.random.default_rng(0).normal(size=(count, 1))
    values[0] = 40.0
    return collect(dense([[1.0]]), values, histogram=True)["fc"]


def test_minmax_over_all_batches():
    x = np.linspace(-3.0, 5.0, 1000)[:, None]
    found = collect(dense([[2.0]]), x)

    assert (found["x"].lo, found["x"].hi) == (-3.0, 5.0)
    assert (found["fc"].lo, found["fc"].hi) == (-6.0, 10.0)
    assert found["fc"].counts is None


def test_histogram_counts_every_value():
    found = collect(dense([[1.0]]), np.linspace(0.0, 1.0, 1000)[:, None], histogram=True)["fc"]

    assert found.counts.sum() == 1000
    assert found.counts[0] == found.counts[-1] == 1


def test_percentile_cuts_the_outlier():
    lo, hi = normal().percentile(99.9)

    assert lo == pytest.approx(-3.09, abs=0.1)
    assert hi == pytest.approx(3.09, abs=0.1)


def test_percentile_of_mostly_zeros_keeps_the_range():
    values = np.zeros((100_000, 1))
    values[:3] = 2.0
    found = collect(dense([[1.0]]), values, histogram=True)["fc"]

    assert found.percentile(99.0) == (0.0, 2.0)


def test_mse_is_never_worse_than_minmax():
    statistics = normal()
    options = {"percentile": 99.99, "pow2": False, "asymmetric": False}
    errors = [
        squared_error(statistics, activation_type(statistics, bits, method=method, **options))
        for bits in (3, 8)
        for method in ("mse", "minmax")
    ]

    assert errors[0] < 0.9 * errors[1]
    assert errors[2] < errors[3]


@pytest.mark.parametrize(
    ("limits", "asymmetric", "expected"),
    [
        ((0.0, 2.55), False, TensorType(8, False, 0, scale=0.01)),
        ((0.5, 2.55), True, TensorType(8, False, 0, scale=0.01)),
        ((-0.5, 1.27), False, TensorType(8, True, 0, scale=0.01)),
        ((-0.55, 2.0), True, TensorType(8, False, 55, scale=0.01)),
        ((-2.55, -1.0), True, TensorType(8, False, 255, scale=0.01)),
        ((0.0, 0.0), False, TensorType(8, False, 0, scale=1.0)),
        ((-1e-40, 1e-40), False, TensorType(8, True, 0, scale=1.0)),
    ],
)
def test_types_of_ranges(limits, asymmetric, expected):
    kind = range_type(*limits, 8, pow2=False, asymmetric=asymmetric)

    assert kind.scale == pytest.approx(expected.scale)
    assert (kind.signed, kind.zero_point) == (expected.signed, expected.zero_point)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_pow2_types_cover_the_range(asymmetric):
    rng = np.random.default_rng(1)
    for lo, hi in rng.normal(size=(50, 2)):
        kind = range_type(lo, hi, 8, pow2=True, asymmetric=asymmetric)
        reach = [(end - kind.zero_point) * kind.scale for end in (kind.lo, kind.hi)]

        assert np.frexp(kind.scale)[0] == 0.5
        assert reach[0] - kind.scale <= min(lo, 0.0)
        assert reach[1] + kind.scale >= max(hi, 0.0)


def test_power_of_two_rounds_up():
    values = np.array([0.25, 0.26, 1.0, 1.01, 3.0])

    assert power_of_two(values).tolist() == [0.25, 0.5, 1.0, 2.0, 4.0]


def scales(weight, bias=(0.0, 0.0), bits=8, **options):
    settings = {"per_channel": True, "pow2": False, "spread_bits": 6, **options}
    return weight_scales(np.array(weight), np.array(bias), 0.01, bits, **settings)


def test_weight_scales_per_channel_and_per_tensor():
    weight = [[127.0, 1.0], [12.7, 0.1]]

    assert scales(weight) == pytest.approx([1.0, 0.1])
    assert scales(weight, per_channel=False) == pytest.approx([1.0, 1.0])


def test_few_bits_clip_the_largest_weight():
    weight = np.array([[1.0, *[0.6] * 20]])
    step = weight_scales(weight, np.zeros(1), 1.0, 2, per_channel=True, pow2=False, spread_bits=6)

    assert step[0] < 0.7


def test_dead_channels_and_large_biases_get_a_usable_scale():
    dead = scales([[0.0, 0.0], [1.27, 0.0]], bias=(5.0, 0.0))
    tiny = scales([[1e-20, 0.0], [1.27, 0.0]], bias=(1e6, 0.0))
    all_dead = scales([[0.0, 0.0], [0.0, 0.0]], bias=(3.0, 0.0))

    assert dead == pytest.approx([0.01, 0.01])
    assert tiny[0] == pytest.approx(0.1, abs=0.1)
    assert 1e6 / (0.01 * tiny[0]) < 2.0**31
    assert 2.0**12 < 3.0 / (0.01 * all_dead[0]) < 2.0**31
    assert (scales([[0.0], [0.0]]) == 1.0).all()


def test_fit_bound_and_common_shift():
    rng = np.random.default_rng(2)
    for m_bits in (8, 16, 24, 31):
        ratios = 2.0 ** rng.uniform(-18, -2, size=7)
        multipliers, shift = fit(ratios, m_bits)

        assert multipliers.max() < 1 << m_bits
        assert (np.abs(multipliers * 2.0**-shift - ratios) <= 2.0 ** -(shift + 1)).all()
        assert abs(multipliers.max() * 2.0**-shift / ratios.max() - 1) <= 2.0**-m_bits


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.25, (1, 2)), (1.0, (1, 0)), (3.0, (3, 0)), (0.0, (0, 0)), (1e9, (65535, 0))],
)
def test_fit_of_special_ratios(ratio, expected):
    multipliers, shift = fit(np.array([ratio]), 16)

    assert (int(multipliers[0]), shift) == expected


def test_fit_of_a_ratio_next_to_a_power_of_two_stays_in_width():
    multipliers, shift = fit(np.array([np.nextafter(0.5, 0)]), 16)

    assert (int(multipliers[0]), shift) == (1, 1)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((0, 2)), "empty"),
        (np.zeros((3, 5)), r"shape \(3, 5\); input x needs \[n, 2\]"),
        (np.zeros(2), "shape"),
        (np.array([[0.0, np.nan]]), "NaN"),
        (np.array([[0.0, np.inf]]), "infinity"),
        (np.array([["a", "b"]]), "numbers"),
    ],
)
def test_bad_calibration_data(x, message):
    with pytest.raises(InputError, match=message):
        check_calibration(dense([[1.0, 1.0]]), x)


def test_overflow_names_the_layer():
    with pytest.raises(InputError, match="layer fc: overflows"):
        collect(dense([[1e30]]), np.full((1, 1), 1e30))


def test_percentile_of_a_constant_tensor():
    statistics = Statistics(2.0, 2.0, np.eye(1, 4096)[0])

    assert statistics.percentile(99.0) == (0.0, 2.0)
