"""The command line: arguments, JSON, one line on stderr, exit status, quick start."""

import json
import subprocess
import sys

import pytest

from tercet.flow import cli, commands
from tercet.quant.errors import ClaimError, InputError

TORCH_MISSING = (
    "tercet: error: torch is not installed; "
    "pip install 'tercet[all]' (`tercet doctor` shows what is missing)"
)


def raising(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("layer conv1: too wide\nuse 8 bits"), 2,
         "tercet: error: layer conv1: too wide use 8 bits"),
        (ClaimError("3 of 4 voter bits"), 1, "tercet: failed: 3 of 4 voter bits"),
        (PermissionError(13, "Permission denied", "/no/where"), 2,
         "tercet: error: /no/where: Permission denied"),
        (OSError(28, "No space left on device"), 2, "tercet: error: No space left on device"),
        (ModuleNotFoundError("no torch", name="torch"), 2,
         TORCH_MISSING),
        (KeyboardInterrupt(), 130, "tercet: interrupted"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_a_status(monkeypatch, capsys, error, status, line):
    monkeypatch.setattr(commands, "doctor", raising(error))

    assert cli.main(["doctor"]) == status
    assert capsys.readouterr() == ("", line + "\n")


def test_a_failed_claim_still_prints_the_result(monkeypatch, capsys):
    done = commands.Done({"images": 3}, lambda result: None, "3 words differ")
    monkeypatch.setattr(commands, "doctor", lambda args: done)

    assert cli.main(["doctor", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"images": 3}
    assert captured.err == "tercet: failed: 3 words differ\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["build", "net.py:make"],
        ["synth", "dir", "--seeds", "1,x"],
        ["synth", "dir", "--seeds", "-1"],
        ["synth", "dir", "--freq", "nan"],
        ["inject", "dir", "--faults", "0"],
        ["inject", "dir", "--engine", "magic"],
        ["inject", "dir", "--rate", "0"],
        ["inject", "dir", "--ready", "1.5"],
        ["inject", "dir", "--audit", "-1"],
        ["verify", "dir", "--imag", "3"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "error: " in capsys.readouterr().err


def test_every_command_has_help_and_json(capsys):
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            cli.main([command, "--help"])
        assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["verify", "inject", "synth", "run"])
def test_help_says_that_a_directory_is_code(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])

    text = " ".join(capsys.readouterr().out.split())
    assert "its Verilog is compiled and run" in text or "Yosys reads its Verilog" in text


@pytest.mark.parametrize("command", ["verify", "inject", "synth"])
def test_a_folder_that_is_no_build_is_bad_input(command, tmp_path, capsys):
    assert cli.main([command, str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("tercet: error: ")


def test_synth_prints_json(tmp_path, build_directory, capsys):
    assert cli.main(["synth", str(build_directory(tmp_path)), "--json"]) == 0

    result = json.loads(capsys.readouterr().out)
    assert {"target", "luts", "ffs", "dsps", "brams", "carries", "fmax_mhz", "seeds"} <= set(result)
    assert {"bitstream", "replicas", "estimate"} <= set(result)


def test_synth_shows_measured_beside_estimated(tmp_path, build_directory, capsys):
    assert cli.main(["synth", str(build_directory(tmp_path))]) == 0

    text = capsys.readouterr().out
    assert "4 of 4 voter bits" in text
    assert "measured" in text


def test_synth_with_lost_replicas_exits_with_1(tmp_path, build_directory, capsys):
    assert cli.main(["synth", str(build_directory(tmp_path, keep=""))]) == 1
    assert "tercet: failed: 0 of 4 voter bits" in capsys.readouterr().err


def test_a_clock_without_place_and_route_is_refused(tmp_path, capsys):
    assert cli.main(["synth", str(tmp_path), "--freq", "50"]) == 2
    assert "--freq needs --pnr" in capsys.readouterr().err


def test_doctor_is_ready(capsys):
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("ready\n")


def test_only_given_quantisation_options_are_passed_on():
    args = cli.parser().parse_args(
        ["build", "g.json", "-o", "d", "--weight-bits", "4", "--per-tensor"]
    )

    assert commands.quantisation(args) == {"weight_bits": 4, "per_channel": False}


def test_help_loads_no_heavy_package():
    code = (
        "import sys\n"
        "from tercet.flow import cli\n"
        "cli.parser().format_help()\n"
        "heavy = {'numpy', 'torch', 'amaranth', 'rich', 'pyosys'} & set(sys.modules)\n"
        "print(*heavy)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


def test_a_closed_pipe_is_no_traceback():
    code = "import sys; from tercet.flow.cli import main; sys.exit(main(['doctor', '--json']))"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()

    assert process.wait() == 141
    assert error == b""
