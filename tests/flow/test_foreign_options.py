"""tercet inject --verilog: options that belong together, a campaign from the command line."""

import json
from pathlib import Path

import pytest

from tercet.flow import cli

DESIGNS = Path(__file__).parents[1] / "sim" / "foreign"
WHOLE = ["--verilog", "a.v", "--top", "a", "--clock", "clk", "--bench", "b.py", "-o", "out"]


def without(option):
    at = WHOLE.index(option)
    return WHOLE[:at] + WHOLE[at + 2 :]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "give the build directory DIR, or --verilog for a design of your own"),
        (["--flag", "err"], "--flag needs --verilog"),
        (["--from", "3"], "--from needs --verilog"),
        (without("--top"), "--verilog needs --top"),
        (without("--clock"), "--verilog needs --clock"),
        (without("--bench"), "--verilog needs --bench"),
        (without("-o"), "--verilog needs -o"),
        (
            ["DIR", *WHOLE],
            "DIR and --verilog: give either a build directory or a design of your own",
        ),
        ([*WHOLE, "--inputs", "3"], "--inputs: the bench makes the inputs, with --verilog"),
        ([*WHOLE, "--ready", "0.5"], "--ready: the bench makes the inputs, with --verilog"),
        ([*WHOLE, "--engine", "netlist"], "engine must be one of native"),
        (WHOLE, "a.v: no such Verilog file"),
        (["DIR", "--rate", "1e-9", "--clock", "clk"], "--clock must be a number above 0"),
    ],
)
def test_options_that_do_not_fit_are_one_line(tmp_path, monkeypatch, capsys, arguments, line):
    monkeypatch.chdir(tmp_path)

    assert cli.main(["inject", *arguments]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def command(name, out, *more):
    verilog = next(DESIGNS.glob(f"{name}.*v"))
    options = ["inject", "--verilog", str(verilog), "--top", name, "--clock", "clk", "--json"]
    return [*options, "--bench", str(DESIGNS / f"{name}_bench.py"), "-o", str(out), *more]


@pytest.mark.slow
@pytest.mark.verilator
def test_a_campaign_on_a_design_and_a_bench_as_they_are(tmp_path, capsys):
    pytest.importorskip("cocotb")
    arguments = command("smooth", tmp_path / "out", "--faults", "60", "--audit", "20")

    assert cli.main(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    assert cli.main([*arguments, "--resume"]) == 0
    again = json.loads(capsys.readouterr().out)

    assert first["audit"] == {"sampled": 20, "disagreements": 0, "differing": []}
    assert sum(first["outcomes"].values()) == 60
    assert first["ff_bits"] == 100
    assert first["by_role"]["sum"]["ff_bits"] == 20
    assert first["window"] == {"cycles": 70, "from": 4, "why": "after reset rst"}
    assert again["outcomes"] == first["outcomes"]
    assert (tmp_path / "out" / "campaigns" / first["id"] / "report.json").is_file()


@pytest.mark.verilator
def test_a_bench_that_fails_without_a_fault_is_status_1(tmp_path, capsys):
    pytest.importorskip("cocotb")
    bench = tmp_path / "wrong_bench.py"
    text = (DESIGNS / "chain_bench.py").read_text().replace("== expected", "!= expected")
    bench.write_text(text)

    assert cli.main([*command("chain", tmp_path / "out"), "--bench", str(bench)]) == 1
    assert "wrong_bench.py: without a fault" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
