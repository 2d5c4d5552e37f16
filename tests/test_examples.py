"""The examples run as they stand in the repository."""

import runpy
import sys
from pathlib import Path

import pytest

from tercet.flow.search.constraints import check
from tercet.flow.search.space_file import load_space

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.verilator
def test_widths_scores_both_plans_and_marks_a_front(monkeypatch, capsys):
    arguments = ["widths.py", "--faults", "150", "--widths", "2x4"]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(EXAMPLES / "widths.py"), run_name="__main__")

    lines = capsys.readouterr().out.splitlines()
    rows = {line[:16].strip(): line[16:].split() for line in lines[1:3]}
    assert list(rows) == ["2x4 plain", "2x4 checksum"]
    assert any("*" in row for row in rows.values())
    assert all(0.5 < float(row[0].rstrip("%")) / 100 <= 1 for row in rows.values())
    # The checksum costs logic.
    assert int(rows["2x4 checksum"][2].replace(",", "")) > int(
        rows["2x4 plain"][2].replace(",", "")
    )


def test_the_search_space_loads_and_can_satisfy_its_constraint():
    space = load_space(EXAMPLES / "search.toml")
    check(space)

    assert space.size == 2 * (4 + 16) * 2 * 2 * 2
    assert space.search.evaluations == 24
