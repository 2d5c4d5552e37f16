"""`tercet search`: its result, its files, its text, and what it refuses."""

import json
import re
import shutil

import pytest

from tercet.flow.cli import main
from tercet.flow.search import text
from tercet.flow.search.archive import load_archive
from tercet.flow.search.command import search
from tercet.flow.search.finalists import MEASURED


def dominates(one, other):
    pairs = [(one[name], other[name]) for name in one]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def test_the_result_is_what_design_promises(tiny):
    result = tiny.result

    assert {"evaluations", "hypervolume", "front", "seconds", "overhead_seconds"} <= result.keys()
    assert result["evaluations"] == 8
    assert 0 < result["hypervolume"] < 1
    assert result["failure"] is None
    assert result["seconds"] > result["overhead_seconds"] > 0
    assert json.loads((tiny.out / "search.json").read_text()) == json.loads(json.dumps(result))


def test_nothing_dominates_the_front(tiny):
    names = tiny.result["objectives"]
    records = load_archive(tiny.out).feasible
    every = [{name: record.objectives[name] for name in names} for record in records]
    front = [{name: one["objectives"][name] for name in names} for one in tiny.result["front"]]

    assert not any(dominates(one, other) for one in every for other in front)
    assert all(one in front or any(dominates(o, one) for o in front) for one in every)


def test_each_network_is_trained_once(tiny):
    networks = list((tiny.out / "networks").iterdir())
    archive = load_archive(tiny.out)

    assert archive.evaluations == 8
    assert len(networks) == len({tuple(one.genome["width"]) for one in archive.records}) < 8


def test_the_plots_need_no_network(tiny):
    page = (tiny.out / "front.html").read_text()

    assert (tiny.out / "front.png").read_bytes().startswith(b"\x89PNG")
    assert "Plotly.newPlot" in page
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    assert "chain 1x2k1 flatten w8a8 scale" in page


def test_a_finished_search_resumes_to_the_same_result(tiny):
    archive = (tiny.out / "archive.json").read_bytes()
    again = search(tiny.space, tiny.out, resume=True, workers=1)
    times = ("seconds", "overhead_seconds")

    assert {k: v for k, v in again.items() if k not in times} == {
        k: v for k, v in tiny.result.items() if k not in times
    }
    assert (tiny.out / "archive.json").read_bytes() == archive


def test_the_table_names_members_and_objectives(tiny, capsys):
    text.show(tiny.result)
    shown = capsys.readouterr().out

    assert "8 evaluations of 16 candidates by nsga2" in shown
    assert "vulnerable_bit_cycles" in shown
    assert "chain 1x" in shown
    assert "build one: tercet build " in shown


def test_a_number_is_shown_whole_or_with_four_digits():
    values = [0.123456, 3.0, 12345.6, 0.0, None]

    assert [text.number(value) for value in values] == ["0.1235", "3", "12,346", "0", "-"]


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (None, [], "holds the archive of a search; go on with --resume"),
        (("epochs = 2", "epochs = 3"), ["--resume"], "differs in train.epochs (2, not 3)"),
        (("width = [2, 4]", "width = [2, 6]"), ["--resume"], "genes.width1 ([2, 4], not [2, 6])"),
    ],
)
def test_another_search_in_the_folder_is_bad_input(tiny, tmp_path, capsys, change, options, says):
    space = tmp_path / "space.toml"
    space.write_text(tiny.text.replace(*change) if change else tiny.text)

    assert main(["search", str(space), "-o", str(tiny.out), *options]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("fit = 0.8", "luts = 10"), "luts <= 10"),
        (('"error", "vuln', '"power", "vuln'), "unknown objective 'power'"),
        (("width = [2, 4]", "width = []"), "width"),
    ],
)
def test_a_space_without_a_candidate_is_bad_input(tiny, tmp_path, capsys, change, says):
    """Before anything is trained or written."""
    space = tmp_path / "space.toml"
    choosing = tiny.text[tiny.text.index("tmr =") : tiny.text.index("[objectives]")]
    plain = tiny.text.replace(choosing, 'control = "parity"\n')  # a share is no estimate's
    space.write_text(plain.replace(*change))

    assert main(["search", str(space), "-o", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_objective_of_ones_own_that_raises_is_the_reason(tiny, tmp_path, capsys):
    (tmp_path / "own.py").write_text("def cost(graph, design):\n    return 1 / 0\n")
    space = tmp_path / "space.toml"
    space.write_text(tiny.text.replace('"vulnerable_bit_cycles"', '"own.py:cost"'))
    out = tmp_path / "out"
    shutil.copytree(tiny.out / "networks", out / "networks")  # they need no training

    assert main(["search", str(space), "-o", str(out), "--workers", "1"]) == 1
    says = "all 4 evaluations failed; the first: ZeroDivisionError: division by zero"
    assert says in capsys.readouterr().err
    assert {one.failure for one in load_archive(out).records} == {says.split("first: ")[1]}


@pytest.mark.slow
@pytest.mark.verilator
def test_finalists_are_measured_beside_what_was_predicted(tiny, capsys):
    result = search(tiny.space, tiny.out, resume=True, workers=1, measure=1, faults=1000)
    (finalist,) = result["finalists"]
    rows = {row["objective"]: row for row in finalist["rows"]}

    assert result["failure"] is None
    assert rows.keys() == {*MEASURED}
    assert all(row["measured"] is not None for row in rows.values())
    assert rows["initiation_interval"]["measured"] == rows["initiation_interval"]["predicted"]
    assert rows["latency_cycles"]["measured"] == rows["latency_cycles"]["predicted"]
    assert rows["dsps"]["measured"] == rows["dsps"]["predicted"]
    vulnerable = rows["vulnerable_bit_cycles"]
    assert vulnerable["low"] <= vulnerable["measured"] <= vulnerable["high"]
    assert finalist["verify"]["mismatches"] == 0
    text.show(result)
    assert f"finalist {finalist['number']}" in capsys.readouterr().out
