"""What is said of a plan: rows, and the text on the terminal."""

import pytest

from tercet.flow.harden import text
from tercet.flow.harden.coverage import WATCHED, Coverage
from tercet.flow.harden.front import front
from tercet.flow.harden.predict import Predictor
from tercet.flow.harden.table import options_table, plan_table


def test_rows_of_a_plan_add_up_to_its_prediction(predictor):
    """Areas and shares of different groups add up, as the choice assumes."""
    points = front(predictor)
    point = points[len(points) // 2]
    rows = plan_table(predictor, point)

    assert sum(row["overhead"] for row in rows) == pytest.approx(point.predicted.overhead, rel=0.05)
    assert 1 - sum(row["removes"] for row in rows) == pytest.approx(point.predicted.ratio, rel=0.05)


def test_options_are_those_of_all_groups_and_the_chosen_ones_marked(predictor):
    point = front(predictor)[-1]
    rows = options_table(predictor, point)

    assert len(rows) == sum(len(group.options) - 1 for group in point.groups)
    chosen = [row for row in rows if row["chosen"]]
    assert [{k: v for k, v in row.items() if k != "chosen"} for row in chosen] == plan_table(
        predictor, point
    )


@pytest.fixture
def with_watchdog(predictor, coverage):
    """A watchdog halves what parity leaves."""
    (counts,) = coverage.designs.values()
    parity = counts["control=parity"]["control"]
    more = {
        f"control=none{WATCHED}": {"control": [90, *parity[1:]]},
        f"control=parity{WATCHED}": {"control": [10, *parity[1:]]},
        f"control=tmr{WATCHED}": counts["control=tmr"],
    }
    return Predictor(
        predictor.graph, predictor.folding, predictor.target, predictor.profile,
        predictor.scores, Coverage({"one": counts | more}),
    )  # fmt: skip


def test_a_watchdog_is_chosen_where_it_buys_more(with_watchdog):
    points = front(with_watchdog)
    watched = [point for point in points if point.watchdog]
    row = plan_table(with_watchdog, watched[0])[0]

    assert not points[0].watchdog
    assert watched[0].plan.watchdog
    assert (row["layer"], row["settings"]) == ("the output", "watchdog")
    assert row["removes"] == pytest.approx(240 / 408 * (1 - 90.5 / 1001 / 0.1), rel=0.01)


def test_the_text_shows_front_plan_and_measurement(predictor, capsys):
    points = front(predictor)
    point = points[-1]
    ratio = {"value": 0.25, "low": 0.2, "high": None}
    outcomes = {"sdc_critical": 1234, "masked": 5}
    text.show(
        {
            "source": "DIR", "target": "ecp5-25k", "out": "OUT",
            "profile": predictor.profile.to_json(),
            "front": [one.to_json() for one in points],
            "layers": plan_table(predictor, point),
            "explain": options_table(predictor, point),
            "predicted": vars(point.predicted),
            "measured": {
                "overhead": 0.5, "ratio": ratio, "experiments": 4000, "inputs": 32,
                "outcomes": outcomes, "plain_outcomes": outcomes,
            },
            "notes": ["few inputs"],
        }
    )  # fmt: skip

    shown = capsys.readouterr().out
    assert "control tmr" in shown
    assert "0.2500 (0.2000 to -)" in shown
    assert "sdc_critical 1,234 / 1,234" in shown
    assert "note: few inputs" in shown
    assert "masked" not in shown
