"""The shares of a safety case, from experiments made by hand."""

import numpy as np
import pytest

from tercet.flow.report.evidence import Campaign
from tercet.flow.report.measure import Measured, metrics
from tercet.flow.report.uncovered import registers
from tercet.quant.errors import InputError
from tercet.sim.outcomes import Outcome
from tercet.sim.statistics import wilson
from tercet.sim.store import SiteRow, Table

SITES = [
    SiteRow("a.acc", "register", "accumulator", "a", 0, 8),
    SiteRow("a.step", "register", "control", "a", None, 2),
    SiteRow("b.acc", "register", "accumulator", "b", 0, 6),
    SiteRow("b.rom", "memory", "weight", "b", None, 64),
]
KINDS = {o.label: o for o in Outcome}
#: Site, input, outcome, whether some class was wrong.
ROWS = [
    *[(0, 0, "masked", 0)] * 5,
    *[(0, 1, "due", 1)] * 3,
    *[(0, 1, "due", 0)] * 1,
    *[(1, 0, "sdc_critical", 1)] * 2,
    *[(1, 1, "hang", 0)] * 1,
    *[(1, 0, "false_alarm", 0)] * 2,
    *[(2, 1, "sdc_tolerable", 1)] * 1,
    *[(2, 1, "sdc_tolerable", 0)] * 2,
    *[(2, 0, "recovered", 0)] * 2,
    *[(2, 0, "latent", 0)] * 1,
]


def campaign(exhaustive=False):
    rate = {"avf": 0.1, "low": 0.0, "high": 0.2, "confidence": 0.95}
    report = {"sdc_critical": rate, "exhaustive": exhaustive, "inputs": 2, "seed": 0}
    return Campaign("x-1", report | {"initiation_interval": 10.0, "experiments": 20}, "seu", "rtl")


def table(judged=True, rows=ROWS):
    site, owner, outcome, critical = (np.array(c) for c in zip(*rows, strict=True))
    outcome = np.array([KINDS[name] for name in outcome])
    zero = np.zeros(len(rows), int)
    known = critical if judged else None
    return Table(site, zero, zero, owner, outcome, zero, zero, None, known)


def measured(**options):
    return Measured.of(campaign(options.pop("exhaustive", False)), SITES, table(**options))


def test_classes_are_layers_and_roles_of_registers():
    found = measured()

    assert found.classes == (("a", "accumulator"), ("a", "control"), ("b", "accumulator"))
    assert found.bits.tolist() == [8, 2, 6]
    assert found.counts.sum() == len(ROWS)


def test_diagnostic_coverage_is_of_the_dangerous():
    found = metrics(measured())["diagnostic_coverage"]

    assert (found["events"], found["trials"]) == (6, 12)
    assert found["value"] == 0.5
    assert (found["low"], found["high"]) == wilson(6, 12)


def test_coverage_of_critical_results_counts_what_was_flagged():
    """Three due and one beside an unflagged but tolerable result, of these, two and a hang."""
    found = metrics(measured())["critical_coverage"]

    assert (found["events"], found["trials"]) == (4, 7)
    assert metrics(measured(judged=False))["critical_coverage"] is None


def test_single_point_and_latent_shares():
    found = metrics(measured())

    assert (found["residual"]["events"], found["residual"]["trials"]) == (3, 20)
    assert found["single_point_like"]["value"] == pytest.approx(1 - 3 / 20)
    assert found["single_point_like_words"]["value"] == pytest.approx(1 - 6 / 20)
    assert (found["latent_like"]["events"], found["latent_like"]["trials"]) == (16, 17)
    assert found["availability_loss"]["events"] == 6
    assert found["false_alarm"]["events"] == 2
    assert found["hang"]["events"] == found["latent"]["events"] == 1


def test_a_group_has_its_own_bits_and_rates():
    found = measured().group(np.array([False, True, False]))

    assert found["bits"] == 2
    assert found["outcomes"]["sdc_critical"] == 2
    assert found["sdc_critical"]["value"] == pytest.approx(2 / 5)
    assert found["vulnerable_bit_cycles"] == pytest.approx(2 / 5 * 2 * 10)
    assert found["sdc_critical"]["high"] == pytest.approx(wilson(2, 5, 0.95, 2 * 20)[1])
    assert found["diagnostic_coverage"]["value"] == 0


def test_a_group_without_danger_has_no_coverage():
    rows = [(0, 0, "masked", 0), (0, 1, "false_alarm", 0)]
    found = measured(rows=rows).group(np.array([True, False, False]))

    assert found["diagnostic_coverage"] is None
    assert found["sdc_critical"]["value"] == 0
    assert measured(rows=rows).group(np.array([False, True, False]))["sdc_critical"] is None


def test_all_faults_have_no_error_but_that_of_the_inputs():
    """Input 0 has 2 of its 2 dangerous upsets undetected and 2 recovered, input 1 4 of 8."""
    found = metrics(measured(exhaustive=True))["diagnostic_coverage"]

    assert found["value"] == 0.5
    assert found["low"] == found["high"] == 0.5
    skewed = metrics(measured(exhaustive=True))["hang"]
    assert (skewed["low"], skewed["high"]) == (0.0, 1 / 8)


def test_one_input_has_no_interval():
    rows = [row for row in ROWS if row[1] == 1]
    one = campaign(exhaustive=True)
    one.report["inputs"] = 1
    found = metrics(Measured.of(one, SITES, table(rows=rows)))["diagnostic_coverage"]

    assert (found["low"], found["high"]) == (None, None)
    assert (found["events"], found["trials"]) == (4, 8)


def test_registers_are_listed_by_what_they_do():
    found = registers(measured(), SITES, table())

    assert [row["name"] for row in found] == ["a.step", "b.acc"]
    assert found[0]["share"] == 1.0
    assert (found[0]["sdc_critical"], found[0]["hang"], found[0]["experiments"]) == (2, 1, 5)
    assert found[0]["example"] == "x-1:9"
    assert found[1]["example"] == "x-1:14"


@pytest.mark.parametrize(
    "row", [(9, 0, "masked", 0), (0, 0, "masked", 2), (0, 7, "masked", 0)], ids=str
)
def test_experiments_that_cannot_be_are_refused(row):
    with pytest.raises(InputError, match="campaign x-1: its experiments are damaged"):
        measured(rows=[*ROWS, row])
