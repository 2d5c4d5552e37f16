"""Verilog of a design: attributes, memories, hierarchy, and nothing that depends on the place."""

import re

import pytest

from tercet.flow import emit as module
from tercet.flow.design import prepare
from tercet.flow.emit import emit, voters
from tercet.flow.plan import Checksum, Plan, Settings, Tmr
from tercet.quant.errors import InputError

HARD = Plan(
    Settings(Checksum(7)),
    {"conv": Settings(tmr=Tmr((1, 4))), "hidden": Settings(tmr=Tmr((0, 1, 2, 3, 4, 5)))},
)


@pytest.fixture(scope="module")
def layers(small):
    return prepare(small.graph(), small.FOLDING, HARD).layers


@pytest.fixture(scope="module")
def verilog(layers, tmp_path_factory):
    return emit(layers, tmp_path_factory.mktemp("emit")).read_text()


def modules(verilog):
    """Text of each module by name."""
    found = {}
    for part in verilog.split("\nendmodule"):
        name = re.search(r"^module (\S+?)\s*\(", part, flags=re.MULTILINE)
        if name:
            found[name[1].removeprefix("\\")] = part
    return found


def test_replicas_and_voters_keep_their_hierarchy_and_nothing_else_does(layers, verilog):
    kept = {name for name, text in modules(verilog).items() if "keep_hierarchy" in text}

    expected = set()
    for voter in voters(layers, verilog):
        expected |= {f"top.{path}" for path in (voter["path"], *voter["replicas"])}
    assert kept == expected
    assert len(kept) == 4 * 4


def test_voters_are_listed_with_their_replicas(layers, verilog):
    entries = voters(layers, verilog)

    assert [entry["path"] for entry in entries] == [
        "conv.voter_0", "hidden.voter_0", "hidden.voter_1", "hidden.voter_2",
    ]  # fmt: skip
    assert entries[0] == {
        "path": "conv.voter_0", "layer": "conv", "lane": 0, "width": layers[0].acc_bits,
        "replicas": ["conv.lane_0_r0", "conv.lane_0_r1", "conv.lane_0_r2"],
    }  # fmt: skip


def test_a_plain_design_has_no_voter(small):
    assert voters(prepare(small.graph(), small.FOLDING).layers, "") == []


def test_registers_carry_role_layer_lane_and_replica(verilog):
    attributes = set(re.findall(r'\(\* (role|layer|lane|replica) = "([^"]*)" \*\)', verilog))

    roles = {value for key, value in attributes if key == "role"}
    assert {"product", "accumulator", "activation", "weight", "control", "checker"} <= roles
    assert {value for key, value in attributes if key == "replica"} == {"0", "1", "2"}
    assert {"conv", "pool", "hidden", "logits"} <= {v for k, v in attributes if k == "layer"}


def test_nothing_internal_or_of_the_place_is_left(verilog, tmp_path):
    for left in ("amaranth", "generator", "src =", "/tmp", "Yosys", "$paramod"):
        assert left not in verilog


def test_the_same_layers_give_the_same_file(layers, verilog, tmp_path):
    assert emit(layers, tmp_path).read_text() == verilog
    assert [path.name for path in tmp_path.iterdir()] == ["top.v"]


def test_memories_stay_memories(layers, verilog):
    """Window buffers, FIFOs and weights are arrays, which synthesis can map as it likes."""
    arrays = re.findall(r"reg \[\d+:0\] (\S+) \[\d+:0\];", verilog)

    buffers = sum(layer.window.ports for layer in layers)
    assert len(arrays) >= buffers + len(layers)


def test_ports_and_taps_of_the_top_module(verilog, layers):
    top = modules(verilog)["top"]

    ports = set(re.findall(r"^  (?:input|output) (?:\[\d+:0\] )?(\w+);", top, flags=re.MULTILINE))
    streams = {
        f"{way}_{part}" for way in "io" for part in ("valid", "ready", "data", "first", "last")
    }
    assert ports == {"clk", "rst", "o_err"} | streams
    for layer in layers:
        assert f"tap_{layer.name}_data" in top


def test_without_yosys_the_fix_is_named(layers, tmp_path, monkeypatch):
    def missing(*args, **options):
        raise InputError("synthesis needs pyosys; run: pip install 'tercet[synth]'")

    monkeypatch.setattr(module, "run", missing)

    with pytest.raises(InputError, match="pip install"):
        emit(layers, tmp_path)
