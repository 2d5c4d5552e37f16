"""The build directory: what it holds, that it is whole or absent, and bad input in one line."""

import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from tercet.flow import builder as module
from tercet.flow import cli
from tercet.flow.builder import build, build_design
from tercet.flow.design import prepare
from tercet.flow.plan import Plan, Tmr
from tercet.hw.site import ROLES
from tercet.quant import ir, reference, serialize
from tercet.quant.errors import InputError
from tercet.sim import manifest as manifests

HARD = Plan(checksum=3, layer_tmr={"conv": Tmr((1, 4)), "logits": Tmr((0,))})


@pytest.fixture(scope="module")
def hardened(small, tmp_path_factory):
    """A build with checksums, control parity, replicas and permuted channels."""
    out = tmp_path_factory.mktemp("hard") / "design"
    design = prepare(small.graph(), small.FOLDING, HARD)
    labels = np.arange(5) % 4
    build_design(design, out, target="ecp5-25k", frames=small.frames(5), labels=labels)
    return out


@pytest.fixture(scope="module")
def manifest(hardened):
    return json.loads((hardened / "manifest.json").read_text())


def test_the_directory_holds_what_a_build_promises(hardened):
    names = {path.name for path in hardened.iterdir()}

    assert names == {
        "top.v", "manifest.json", "graph.json", "vectors.npz", "report.json", "cocotb",
    }  # fmt: skip
    assert (hardened / "cocotb" / "Makefile").is_file()


def test_no_file_tells_where_it_was_made(hardened, tmp_path):
    for path in hardened.rglob("*"):
        if path.is_file() and path.suffix != ".npz":
            assert str(hardened.parent).encode() not in path.read_bytes(), path


def test_the_manifest_is_the_one_that_sim_reads(hardened, manifest):
    found = manifests.load(hardened)

    assert found.raw == manifest
    assert manifest["design"] == hashlib.sha256((hardened / "top.v").read_bytes()).hexdigest()
    assert manifest["target"] == "ecp5-25k"
    assert [tap["layer"] for tap in manifest["taps"]] == ["conv", "pool", "hidden", "logits"]
    assert manifest["output"]["permutation"] is None
    assert manifest["input"]["shape"] == [3, 4, 2]


def test_the_manifest_predicts_the_recurrence(small, manifest):
    timing = prepare(small.graph(), small.FOLDING, HARD).timing()

    assert manifest["latency_cycles"] == timing.latency_cycles
    assert manifest["initiation_interval"] == timing.initiation_interval
    assert tuple(manifest["last_beat_cycles"]) == timing.last_beat_cycles[:3]


def test_a_permuted_layer_says_so(manifest):
    tap = next(tap for tap in manifest["taps"] if tap["layer"] == "conv")

    assert sorted(tap["permutation"]) == list(range(6))
    assert {tap["permutation"][q] for q in range(0, 6, 2)} > {1, 4}


def test_every_register_has_a_role_a_layer_and_its_replica(manifest):
    registers = manifest["sites"]["registers"]

    assert {register["role"] for register in registers} <= set(ROLES)
    assert {"product", "accumulator", "activation", "control", "checker", "requant"} <= {
        register["role"] for register in registers
    }
    for register in registers:
        assert register["layer"].removeprefix("to_") in ("conv", "pool", "hidden", "logits")
        parts = register["name"].split(".")
        if "replica" in register and register["replica"] is not None:
            assert f"lane_{register['lane']}_r{register['replica']}" in parts
            assert register["layer"] in parts


def test_every_voter_has_three_replicas_with_the_same_registers(manifest):
    assert len(manifest["voters"]) == 2
    for voter in manifest["voters"]:
        kinds = [
            {
                (register["name"].removeprefix(replica), register["width"])
                for register in manifest["sites"]["registers"]
                if register["name"].startswith(f"{replica}.")
            }
            for replica in voter["replicas"]
        ]
        assert kinds[0] == kinds[1] == kinds[2]
        assert (".acc", voter["width"]) in kinds[0]


COUNT = """
from pyosys import libyosys as ys
design = ys.Design()
for line in ("read_verilog top.v", "hierarchy -top top", "setattr -mod -unset keep_hierarchy",
             "proc", "flatten", "opt_clean", "memory_nordff", "opt_clean"):
    ys.run_pass("tee -q " + line, design)
ys.run_pass("tee -q -o stat.txt stat -width", design)
"""


def count_flip_flops(folder, work):
    """Flip-flop bits by Yosys's own statistics; nothing of ours reads the netlist."""
    (work / "top.v").write_text((folder / "top.v").read_text())
    command = [sys.executable, "-P", "-c", COUNT]
    subprocess.run(command, cwd=work, stdout=subprocess.DEVNULL, check=True)
    lines = re.findall(r"(\d+) +\$[as]*dff[a-z]*_(\d+)$", (work / "stat.txt").read_text(), re.M)
    assert lines
    return sum(int(count) * int(width) for count, width in lines)


def test_the_flip_flop_bits_are_those_of_yosys(hardened, manifest, tmp_path):
    bits = manifest["sites"]["ff_bits"]

    assert bits == sum(register["width"] for register in manifest["sites"]["registers"])
    assert bits == count_flip_flops(hardened, tmp_path)


def test_vectors_and_graph_are_the_ones_given(hardened, small):
    with np.load(hardened / "vectors.npz") as vectors:
        assert (vectors["x"] == small.frames(5)).all()
        assert vectors["labels"].tolist() == [0, 1, 2, 3, 0]
    again = serialize.load(hardened / "graph.json")
    x = small.frames(3, seed=1)
    assert (reference.run(again, x) == reference.run(small.graph(), x)).all()


def test_two_builds_of_one_design_are_the_same_files(hardened, small, tmp_path):
    out = tmp_path / "again"
    design = prepare(small.graph(), small.FOLDING, HARD)

    build_design(design, out, target="ecp5-25k", frames=small.frames(5), labels=np.arange(5) % 4)

    for name in ("top.v", "manifest.json", "graph.json", "report.json"):
        assert (out / name).read_bytes() == (hardened / name).read_bytes(), name


def test_a_folder_above_the_build_is_made_and_nothing_else_is_left(model, tmp_path):
    out = tmp_path / "a" / "b"

    result = build(model, out)

    assert result["verilog"] == str(out / "top.v")
    assert json.loads((out / "report.json").read_text())["verilog"] == "top.v"
    assert [path.name for path in out.parent.iterdir()] == ["b"]
    with np.load(out / "vectors.npz") as vectors:
        assert vectors["x"].shape == (module.RANDOM_VECTORS, 3, 4, 2)


@pytest.fixture(scope="module")
def model(small, tmp_path_factory):
    """graph.json of the small network."""
    path = tmp_path_factory.mktemp("model") / "graph.json"
    serialize.save(small.graph(), path)
    return str(path)


def failing(*args, **options):
    raise InputError("no disk; buy one")


@pytest.mark.parametrize("step", ["emit", "_manifest", "_vectors"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_build_that_fails_leaves_nothing_or_what_was_there(
    model, tmp_path, monkeypatch, step, earlier
):
    out = tmp_path / "design"
    if earlier:
        out.mkdir()
        (out / "manifest.json").write_text('{"schema": 1, "design": "", "sites": {}}')
    monkeypatch.setattr(module, step, failing)

    with pytest.raises(InputError, match="no disk"):
        build(model, out)

    assert [path.name for path in tmp_path.iterdir()] == (["design"] if earlier else [])
    if earlier:
        assert [path.name for path in out.iterdir()] == ["manifest.json"]


def test_an_earlier_build_is_replaced_as_a_whole(model, tmp_path):
    out = tmp_path / "design"
    build(model, out)
    (out / "top.v").write_text("old")
    (out / "left.txt").write_text("old")

    build(model, out)

    assert (out / "top.v").read_text() != "old"
    assert not (out / "left.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["design"]


def test_a_register_without_a_role_stops_the_build(model, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROLES", tuple(role for role in ROLES if role != "activation"))

    with pytest.raises(AssertionError, match="registers without a role"):
        build(model, tmp_path / "design")
    assert not list(tmp_path.iterdir())


def test_explain_tells_how_each_layer_is_folded_and_buffered(model, tmp_path):
    result = build(model, tmp_path / "design", explain=True)

    assert [layer["layer"] for layer in result["explain"]] == ["conv", "pool", "hidden", "logits"]
    slowest = max(layer["cycles_per_frame"] for layer in result["explain"])
    assert slowest <= result["initiation_interval"]


# Bad input: exit status 2, one line that names the layer or file, no DIR.


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


def test_an_operator_without_a_circuit(refused, tmp_path):
    kind = ir.TensorType(4, False)
    node = ir.Add(name="sum", inputs=("x", "x"), multipliers=(1, 1), shift=0, out=kind)
    serialize.save(ir.Graph("g", "x", (3,), kind, (node,), "sum"), tmp_path / "add.json")

    assert "layer sum: Add has no circuit yet; build chains of" in refused(tmp_path / "add.json")


def test_an_unknown_target(refused, model):
    assert "target 'zx81' is unknown; choose one of ecp5-25k" in refused(model, "--target", "zx81")


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        ("[layer.conv9]\nchecksum = { modulus = 3 }", "no layer 'conv9' to protect; the graph has"),
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
        ("model.onnx", "model.onnx: ONNX files are not read"),
        ("model.txt", "model.txt: not a model file; a model is graph.json, FILE.py:NAME or FILE"),
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
