"""Bad input of `tercet build`: one line that names it and the fix, status 2, nothing left."""

import json
import re

import numpy as np
import pytest

from tercet.flow import builder as module
from tercet.flow import cli
from tercet.flow.builder import build
from tercet.quant import reference, serialize
from tercet.quant.errors import InputError
from tercet.sim import manifest as manifests


@pytest.fixture
def refused(tmp_path, capsys):
    """refused(MODEL, *options) -> the line on stderr, after it was found to be the only one."""

    def call(model, *options, out=None):
        out = out or tmp_path / "out" / "design"
        held = sorted(out.iterdir()) if out.is_dir() else out.exists()
        assert cli.main(["build", str(model), "-o", str(out), *map(str, options)]) == 2
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("tercet: error: ")
        assert lines[0].isprintable()
        assert captured.out == ""
        assert held == (sorted(out.iterdir()) if out.is_dir() else out.exists())
        assert not list(out.parent.glob(".*")) if out.parent.is_dir() else True
        return lines[0]

    return call


@pytest.fixture
def write(tmp_path):
    """write(name, text or dict of arrays) -> path."""

    def put(name, content):
        path = tmp_path / name
        if isinstance(content, dict):
            np.savez(path, **content)
        else:
            path.write_text(content)
        return path

    return put


def test_an_unknown_target(refused, model):
    assert "target 'zx81' is unknown; choose one of ecp5-25k" in refused(model, "--target", "zx81")


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (
            "[layer.conv9]\nchecksum = { modulus = 3 }",
            "no layer 'conv9' to protect so; the graph has",
        ),
        ("[layer.conv]\ntmr = { neurons = [99] }", "layer conv has no neuron 99; it has 0..5"),
        ("[default]\nchecksum = { modulus = 4 }", "p.toml: [default]: checksum modulus 4: an even"),
        ("[default]\ntmr = { share = 0.2 }", "tmr share needs inputs to score neurons on; give"),
    ],
)
def test_a_plan_that_does_not_fit(refused, model, write, plan, text):
    assert text in refused(model, "--plan", write("p.toml", plan))


@pytest.mark.parametrize(
    ("fold", "text"),
    [
        ("[layer.conv]\npe = 4", "layer conv: pe = 4 does not divide 6 (output channels of"),
        ("[layer.hidden]\nsimd = 5", "layer hidden: simd = 5 does not divide 12"),
        ("[layer.lost]\npe = 1", "f.toml: [layer.lost]: no such layer; the graph has conv"),
    ],
)
def test_a_folding_that_does_not_fit(refused, model, write, fold, text):
    assert text in refused(model, "--fold", write("f.toml", fold))


def test_files_that_are_not_there(refused, model, tmp_path):
    assert "no.json: no such file" in refused(tmp_path / "no.json")
    assert "no.toml: no such plan" in refused(model, "--plan", tmp_path / "no.toml")
    assert "no.toml: no such folding" in refused(model, "--fold", tmp_path / "no.toml")
    assert "no.npz: no such file" in refused(model, "--vectors", tmp_path / "no.npz")


def test_an_output_that_is_a_file(refused, model, write):
    assert "is a file; give a folder" in refused(model, out=write("file", "mine"))


def test_an_output_below_a_file(refused, model, write):
    assert "cannot be created" in refused(model, out=write("file", "mine") / "design")


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_an_output_that_holds_something_else(refused, model, tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text('{"name": "a browser extension"}')

    assert "holds something else than a build" in refused(model, out=tmp_path / "mine")
    assert (tmp_path / "mine" / name).read_text() == '{"name": "a browser extension"}'


def test_an_output_whose_folder_cannot_be_written(refused, model, monkeypatch, tmp_path):
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)

    assert "its folder is not writable; choose another with -o" in refused(model)


def test_an_output_on_a_file_system_that_takes_nothing(model, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.tempfile, "mkdtemp", full)

    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        build(model, tmp_path / "design")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x": np.zeros((4, 3, 4, 3), int)}, "x: shape (4, 3, 4, 3) is not (N, *(3, 4, 2))"),
        ({"x": np.zeros((0, 3, 4, 2), int)}, "array 'x' is empty; give at least one input"),
        ({"x": np.full((1, 3, 4, 2), 16)}, "x: values outside 0..15"),
        ({"x": np.zeros((2, 3, 4, 2), int), "labels": np.zeros(3, int)}, "labels has shape (3,)"),
        ({"y": np.zeros(3)}, "has no array 'x'; it holds: y"),
        ({"x": np.array(["a"])}, "array 'x' must hold numbers"),
        ({"x": np.full((1, 2, 3, 4), np.nan)}, "inputs hold NaN"),
        ({"x": np.zeros((1, 3, 4, 2))}, "inputs have shape (1, 3, 4, 2); x needs"),
    ],
)
def test_inputs_of_another_network(refused, model, write, arrays, text):
    path = write("x.npz", arrays)

    assert f"x.npz: {text}" in refused(model, "--vectors", path)


def test_calibration_of_another_network(refused, model, write):
    other = write("other.npz", {"x": np.zeros((4, 8), int)})
    broken = write("broken.npz", "not a zip")

    assert "other.npz: x: shape (4, 8) is not" in refused(model, "--calibration", other)
    assert "broken.npz: not a readable .npz file" in refused(model, "--calibration", broken)


def test_calibration_of_a_float_model_of_another_shape_or_empty(refused, write):
    text = "from torch import nn\nnet = nn.Sequential(nn.Linear(6, 3))\n"
    net = f"{write('net.py', text)}:net"
    wrong = write("wrong.npz", {"x": np.zeros((5, 7), np.float32)})
    empty = write("empty.npz", {"x": np.zeros((0, 6), np.float32)})
    flat = write("flat.npz", {"x": np.zeros(6, np.float32)})

    assert "a float model needs --calibration X.npz" in refused(net)
    assert "7" in refused(net, "--calibration", wrong)
    assert "empty" in refused(net, "--calibration", empty)
    assert "flat.npz: array 'x' has shape (6,)" in refused(net, "--calibration", flat)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model.pt2", "model.pt2: loading a .pt2 file can run code from it; give --trust-model"),
        ("model.onnx", "model.onnx: truncated or not an ONNX file; export it again"),
        ("model.txt", "model.txt: not a model file; a model is FILE.onnx, graph.json"),
        ("model.py", "model.py: name the module or function in it, as model.py:NAME"),
        ("model.json", "model.json: "),
    ],
)
def test_a_file_that_is_no_model(refused, write, name, text):
    assert text in refused(write(name, "no model\n"))


def test_options_for_float_models_are_refused_for_a_graph(refused, model):
    assert "--weight-bits: " in refused(model, "--weight-bits", "4")


HOSTILE = [
    'a"; $finish; //',
    'b\nendmodule\nmodule evil(); initial $system("touch pwned")',
    "$display",
    "../../../etc/passwd",
    "<script>alert(1)</script>",
    '`include "/etc/passwd"',
    "\u202egnp.exe",
    "i_valid",
]


@pytest.mark.parametrize("start", [0, 4])
def test_hostile_layer_names_become_plain_ones(small, tmp_path, capsys, start):
    names = HOSTILE[start : start + 4]
    text = serialize.to_json(small.graph())
    document = json.loads(text)
    for old, new in zip(("conv", "pool", "hidden", "logits"), names, strict=True):
        for node in document["nodes"]:
            node["name"] = new if node["name"] == old else node["name"]
            node["inputs"] = [new if name == old else name for name in node["inputs"]]
        document["output"] = new if document["output"] == old else document["output"]
    path, out = tmp_path / "graph.json", tmp_path / "design"
    path.write_text(json.dumps(document))

    assert cli.main(["build", str(path), "-o", str(out)]) == 0

    assert "\u202e" not in capsys.readouterr().out
    layers = [layer["name"] for layer in manifests.load(out).raw["layers"]]
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in layers)
    assert len(set(layers)) == 4
    verilog = (out / "top.v").read_text()
    for piece in ("$finish", "$system", "$display", "<script>", "`include", "\u202e"):
        assert piece not in verilog
    assert sorted(path.name for path in tmp_path.iterdir()) == ["design", "graph.json"]
    x = small.frames(4)
    truth = reference.run(small.graph(), x)
    assert (reference.run(serialize.load(out / "graph.json"), x) == truth).all()
