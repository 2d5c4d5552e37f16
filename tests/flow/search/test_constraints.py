"""Constraints: candidates refused unseen, evaluations judged, contradictions found beforehand."""

import numpy as np
import pytest

from tercet.flow.search import constraints
from tercet.flow.search.batch import PREDICTED, estimate_batch
from tercet.flow.search.constraints import Constraints, broken, check
from tercet.quant.errors import InputError

SMALL = {
    "family": ("chain",),
    "stages": (1,),
    "kernel": (3,),
    "weight_bits": (4,),
    "scheme": ("scale",),
    "plan": ("none",),
    "multiplier": ("lut",),
    "head": ("mean",),
}  # 2 widths, 2 depths, 2 intervals: eight candidates


@pytest.fixture
def spaces(helper):
    """The module spaces."""
    return helper("flow/search", "spaces")


def every(of):
    return of.sample(np.random.default_rng(0), of.size)


def test_a_space_that_can_be_satisfied_passes(spaces):
    check(spaces.space({"fit": 0.9, "macs": 1e6}))


@pytest.mark.parametrize("limits", [{}, {"error": 0.1}])
def test_nothing_is_estimated_for_constraints_that_no_estimate_tells(spaces, limits, monkeypatch):
    monkeypatch.setattr(constraints, "estimate_batch", None)
    of = spaces.space(limits)

    check(of)
    assert Constraints(of).refused(every(of)[:3]) == [None] * 3


def test_names_the_constraint_that_nothing_satisfies_and_the_least_value(spaces):
    of = spaces.space({"fit": 0.9, "luts": 100}, **SMALL)
    least = estimate_batch(of, every(of))["luts"].min()

    with pytest.raises(InputError) as error:
        check(of)
    assert str(error.value) == (
        f"[constraints] luts <= 100: the smallest of all 8 candidates needs {least:g} luts; raise "
        "the limit or add smaller choices"
    )


def test_names_the_pair_that_excludes_each_other(spaces):
    of = spaces.space(None, **SMALL)
    found = estimate_batch(of, every(of))
    luts, interval = found["luts"], found["initiation_interval"]
    limits = {"luts": float(luts.min()), "initiation_interval": float(interval.min())}
    assert not ((luts <= limits["luts"]) & (interval <= limits["initiation_interval"])).any()

    with pytest.raises(InputError) as error:
        check(spaces.space({"fit": 0.9, **limits}, **SMALL))
    assert str(error.value).startswith(
        f"[constraints] luts <= {limits['luts']:g} and initiation_interval <= "
        f"{limits['initiation_interval']:g}: no candidate of all 8 satisfies both; the closest has "
    )


def test_a_large_space_is_searched_gene_by_gene(spaces):
    with pytest.raises(
        InputError, match=r"macs <= 10: the smallest of [\d,]+ tried candidates needs"
    ) as error:
        check(spaces.space({"macs": 10}, family=("chain",), plan=("none",), scheme=("scale",)))
    least = spaces.space(**{**SMALL, "kernel": (1,)})
    assert f"needs {estimate_batch(least, every(least))['macs'].min():g} macs" in str(error.value)


def test_refuses_what_clearly_breaks_a_constraint(spaces):
    of = spaces.space(None, **SMALL)
    encodings = every(of)
    luts = estimate_batch(of, encodings)["luts"]
    limit = float(np.median(luts))

    found = Constraints(spaces.space({"luts": limit}, **SMALL)).refused(encodings)
    for reason, value in zip(found, luts, strict=True):
        if value > 1.05 * limit:
            assert reason == f"luts, predicted luts {value:g} > {limit:g}"
        else:
            assert reason is None
    assert None in found
    assert any(found)


def test_fit_is_every_resource_of_the_target(spaces):
    of = spaces.space({"fit": 0.001}, **SMALL)

    assert all(
        reason.startswith("fit, predicted luts ") for reason in Constraints(of).refused(every(of))
    )
    assert Constraints(of).broken({"luts": 10, "ffs": 25}) == "fit, ffs 25 > 24.288"
    assert Constraints(of).broken({"luts": 10, "ffs": 20, "dsps": 0, "brams": 0}) is None


def test_judges_an_evaluation_by_constraints_that_no_estimate_tells(spaces):
    limits = Constraints(spaces.space({"error": 0.1}))

    assert limits.broken({"error": 0.2}) == "error, error 0.2 > 0.1"
    assert limits.broken({"error": 0.1}) is None
    assert limits.broken({"error": float("nan")}) == "error, error nan > 0.1"


def test_broken_looks_at_whole_columns(spaces):
    of = spaces.space({"luts": 10.0})

    columns = {"luts": np.array([9.0, 11.0, np.nan]), "macs": np.array([1.0, 1.0, 1.0])}
    assert broken(of, columns).tolist() == [False, True, False]


def test_a_share_in_triple_is_judged_only_when_trained(spaces):
    of = spaces.space({"luts": 1}, **{**SMALL, "plan": ("tmr",)})

    check(of)
    assert Constraints(of).refused(every(of)[:2]) == [None, None]
    assert Constraints(of).broken({"luts": 900.0}) == "luts, luts 900 > 1"


def test_circuits_that_are_refused_are_no_contradiction(spaces, monkeypatch):
    def nothing(space, encodings):
        return {name: np.full(len(encodings), np.nan) for name in PREDICTED}

    monkeypatch.setattr(constraints, "estimate_batch", nothing)
    of = spaces.space({"luts": 1}, **SMALL)

    check(of)
    assert Constraints(of).refused(every(of)[:2]) == [None, None]
