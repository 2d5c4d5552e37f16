"""Batch estimates against the exact estimator on the same skeletons."""

import numpy as np
import pytest

from tercet.flow import targets
from tercet.flow.design import prepare
from tercet.flow.estimator import estimate_design
from tercet.flow.folding import meeting
from tercet.flow.search import batch, topology
from tercet.flow.search.segments import styled
from tercet.flow.search.skeleton import skeleton
from tercet.hw.timing import recurrence

EXACT = ("luts", "ffs", "dsps", "brams", "initiation_interval")
TOPOLOGY = ("macs", "parameters", "asi_fault", "asi_ber", "asi_worst", "adcr")
STEADY = 12
"""Frames after which the spacing of frames has settled; the estimator follows fewer."""

LATENCY_ERROR = 0.15
"""What docs/search.md states; `benchmarks/batch_estimates.py` prints what was found."""


@pytest.fixture
def spaces(helper):
    """The module spaces."""
    return helper("flow/search", "spaces")


def scalar(of, encoding):
    """The exact figures of one candidate's skeleton."""
    one = of.decode(encoding)
    graph = skeleton(one.network)
    folding = styled(graph, meeting(graph, one.interval), one.multiplier)
    design = prepare(graph, folding, of.plan(one.plan_name))
    cost = estimate_design(design, targets.find(of.target))
    index = topology.asi(graph)
    steady = recurrence(design.layers, STEADY).initiation_interval
    return cost | {
        "initiation_interval": steady,
        "macs": topology.macs(graph),
        "parameters": topology.parameters(graph),
        "asi_fault": index.per_fault,
        "asi_ber": index.per_ber,
        "asi_worst": index.worst,
        "adcr": topology.adcr(graph),
    }


def compared(of, count, seed=0):
    """Columns, and the same by the exact estimator."""
    encodings = of.sample(np.random.default_rng(seed), count)
    columns = batch.estimate_batch(of, encodings)
    exact = [scalar(of, encoding) for encoding in encodings]
    return columns, {name: np.array([one[name] for one in exact]) for name in columns}


def test_chains_are_exact_and_latency_within_its_bound(spaces):
    found, exact = compared(spaces.space(family=("chain",)), 12)

    for name in (*EXACT, *TOPOLOGY):
        assert found[name] == pytest.approx(exact[name], rel=1e-12), name
    error = np.abs(found["latency_cycles"] / exact["latency_cycles"] - 1)
    assert error.max() <= LATENCY_ERROR


def test_residual_networks_but_for_the_depth_of_their_fifos(spaces):
    found, exact = compared(spaces.space(family=("residual",), width=(4, 6), plan=("none",)), 5)

    for name in ("dsps", *TOPOLOGY):
        assert found[name] == pytest.approx(exact[name], rel=1e-12), name
    for name in ("luts", "ffs"):
        assert found[name] == pytest.approx(exact[name], rel=0.01), name
    assert np.abs(found["brams"] - exact["brams"]).max() <= 1
    assert (found["initiation_interval"] == exact["initiation_interval"]).all()
    assert found["latency_cycles"] == pytest.approx(exact["latency_cycles"], rel=LATENCY_ERROR)


def test_codes_and_a_watchdog_are_counted(spaces):
    of = spaces.space(family=("chain",), plan=("codes",), weight_bits=(4,), scheme=("scale",))
    found, exact = compared(of, 4)

    for name in ("dsps", "brams", "initiation_interval"):
        assert (found[name] == exact[name]).all(), name
    for name in ("luts", "ffs"):  # a timer may have a bit more or less: latency is interpolated
        assert found[name] == pytest.approx(exact[name], abs=15), name


def test_one_encoding_is_the_same_as_in_a_batch(spaces):
    of = spaces.space()
    encodings = of.sample(np.random.default_rng(1), 4)
    together = batch.estimate_batch(of, encodings)

    for index, encoding in enumerate(encodings):
        alone = batch.estimate_batch(of, encoding[None])
        assert {name: values[0] for name, values in alone.items()} == {
            name: values[index] for name, values in together.items()
        }


def test_a_share_in_triple_costs_more_without_any_score(spaces):
    plain, triple = (spaces.space(family=("chain",), plan=(name,)) for name in ("none", "tmr"))
    encodings = plain.sample(np.random.default_rng(2), 3)

    before, after = (batch.estimate_batch(of, encodings) for of in (plain, triple))
    assert (after["ffs"] > before["ffs"]).all()


def test_what_the_circuits_refuse_is_nan_but_for_the_topology(monkeypatch, spaces):
    from tercet.flow.search import segments
    from tercet.quant.errors import InputError

    def refuse(*args):
        raise InputError("layer s1b1_conv: refused")

    monkeypatch.setattr(segments, "unfitted", refuse)
    of = spaces.space(family=("chain",))
    found = batch.estimate_batch(of, of.sample(np.random.default_rng(3), 2))
    assert np.isnan([found[name] for name in (*EXACT, "latency_cycles")]).all()
    assert np.isfinite([found[name] for name in TOPOLOGY]).all()


def test_a_table_that_is_full_starts_again(monkeypatch, spaces):
    of = spaces.space(family=("chain",), weight_bits=(4,), scheme=("scale",))
    encodings = of.sample(np.random.default_rng(4), 8)
    before = batch.estimate_batch(of, encodings)

    monkeypatch.setattr(batch, "LARGEST", 3)
    tables = batch.Estimates(of)
    for encoding in encodings:
        tables.columns(encoding[None])
        assert tables.rows <= 3 * 3
    for name, values in tables.columns(encodings[:2]).items():
        assert (values == before[name][:2]).all(), name


def test_refuses_encodings_of_another_space(spaces):
    with pytest.raises(ValueError, match="encodings must be"):
        batch.estimate_batch(spaces.space(), np.zeros((1, 3), dtype=np.int64))
