"""The build directory: what it holds, that it is whole or absent, and bad input in one line."""

import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from tercet.flow import builder as module
from tercet.flow.builder import build, build_design
from tercet.flow.design import prepare
from tercet.flow.plan import Checksum, Plan, Settings, Tmr
from tercet.hw.site import ROLES
from tercet.quant import reference, serialize
from tercet.quant.errors import InputError
from tercet.sim import manifest as manifests

HARD = Plan(
    Settings(Checksum(3)), {"conv": Settings(tmr=Tmr((1, 4))), "logits": Settings(tmr=Tmr((0,)))}
)


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
