"""Estimates: equal to the build's timing and registers, the same from a directory, and cheap."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

import tercet.flow
from tercet.flow import targets
from tercet.flow.builder import build, build_design
from tercet.flow.design import prepare
from tercet.flow.estimator import estimate, estimate_command, estimate_design
from tercet.flow.plan import Checksum, Plan, Settings, Tmr
from tercet.hw.configure import Fold
from tercet.quant import serialize
from tercet.quant.errors import InputError
from tercet.quant.ir import Conv2d, Dense, Flatten, Graph, MaxPool, Requantize, TensorType

KEYS = {
    "luts", "ffs", "dsps", "brams", "latency_cycles", "initiation_interval", "fmax_mhz", "layers",
    "source",
}  # fmt: skip


def network(channels=8, edge=8):
    """A convolution, a pool and a dense layer on an edge x edge image, with weights of seed 0."""
    rng = np.random.default_rng(0)
    act = TensorType(8, False)
    table = Requantize(rng.integers(1 << 15, 1 << 16, channels), np.full(channels, 24), act)
    features = channels * (edge // 2) ** 2
    nodes = (
        Conv2d(
            name="conv",
            inputs=("x",),
            weight=rng.integers(-90, 90, (channels, 3, 3, 1)),
            bias=rng.integers(-99, 99, channels),
            padding=(1, 1, 1, 1),
            requantize=table,
        ),
        MaxPool(name="pool", inputs=("conv",), kernel=(2, 2), stride=(2, 2)),
        Flatten(name="flat", inputs=("pool",)),
        Dense(
            name="fc",
            inputs=("flat",),
            weight=rng.integers(-90, 90, (10, features)),
            bias=rng.integers(-99, 99, 10),
        ),
    )
    return Graph("net", "x", (edge, edge, 1), act, nodes, "fc")


FOLDING = {"conv": Fold(4, 3), "pool": Fold(2), "fc": Fold(2, 4)}
PLANS = {
    "plain": Plan(),
    "checksum": Plan(Settings(Checksum(3))),
    "tmr": Plan(
        Settings(Checksum(7)), {"conv": Settings(tmr=Tmr((1, 6))), "fc": Settings(tmr=Tmr((3,)))}
    ),
}


@pytest.fixture(scope="module")
def graph():
    return network()


@pytest.mark.parametrize("name", PLANS)
def test_a_build_counts_the_registers_and_cycles_that_were_estimated(tmp_path, graph, name):
    cost = estimate(graph, folding=FOLDING, plan=PLANS[name])
    result = build_design(prepare(graph, FOLDING, PLANS[name]), tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())

    assert cost.rtl_ffs == manifest["sites"]["ff_bits"]
    assert cost.latency_cycles == manifest["latency_cycles"]
    assert cost.initiation_interval == manifest["initiation_interval"]
    assert result["estimate"] == json.loads(json.dumps(cost.to_json()))


@pytest.mark.parametrize("name", PLANS)
def test_a_directory_costs_what_its_build_said(tmp_path, graph, name):
    result = build_design(prepare(graph, FOLDING, PLANS[name]), tmp_path / "out")

    again = estimate_command(str(tmp_path / "out"))

    said = json.loads(json.dumps(result["estimate"]))
    assert {key: json.loads(json.dumps(again))[key] for key in said} == said


def test_a_directory_keeps_its_plan(tmp_path, graph):
    build_design(prepare(graph, FOLDING), tmp_path / "out")

    with pytest.raises(InputError, match="its own plan and folding"):
        estimate_command(str(tmp_path / "out"), fold="other.toml")


@pytest.mark.parametrize("key", ["folding", "protection", "target"])
def test_a_manifest_without_a_key_is_refused(tmp_path, graph, key):
    build_design(prepare(graph, FOLDING), tmp_path / "out")
    path = tmp_path / "out/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[key]
    path.write_text(json.dumps(manifest))

    with pytest.raises(InputError, match=rf"manifest.json: {key}"):
        estimate_command(str(tmp_path / "out"))


def test_a_command_takes_graph_folding_plan_and_target(tmp_path, graph):
    serialize.save(graph, tmp_path / "graph.json")
    (tmp_path / "f.toml").write_text("[layer.conv]\npe = 4\nsimd = 3\n")
    (tmp_path / "p.toml").write_text("[default]\nchecksum = { modulus = 3 }\n")
    plain = estimate_command(str(tmp_path / "graph.json"), fold=str(tmp_path / "f.toml"))

    hardened = estimate_command(
        str(tmp_path / "graph.json"),
        fold=str(tmp_path / "f.toml"),
        plan=tmp_path / "p.toml",
        target="ecp5-25k",
    )

    assert set(plain) >= KEYS
    assert (plain["target"], hardened["target"]) == (targets.DEFAULT, "ecp5-25k")
    assert hardened["rtl_ffs"] > plain["rtl_ffs"]
    assert hardened["luts"] > plain["luts"]
    assert hardened["ffs"] > plain["ffs"]


def test_quantisation_options_are_for_float_models(tmp_path, graph):
    serialize.save(graph, tmp_path / "graph.json")

    with pytest.raises(InputError, match="--act-bits"):
        estimate_command(str(tmp_path / "graph.json"), quantisation={"act_bits": 4})


def test_an_unknown_target_is_named(graph):
    with pytest.raises(InputError, match="ecp6"):
        estimate(graph, target="ecp6")


def test_layers_add_up_to_the_design(graph):
    cost = estimate(graph, folding=FOLDING, plan=PLANS["tmr"])

    for key in ("luts", "ffs", "rtl_ffs", "dsps", "brams"):
        assert getattr(cost, key) == sum(getattr(layer, key) for layer in cost.layers)
    assert [layer.name for layer in cost.layers] == ["conv", "pool", "fc"]
    assert cost.layers[-1].latency_cycles == cost.latency_cycles
    assert max(layer.initiation_interval for layer in cost.layers) <= cost.initiation_interval


def test_more_lanes_cost_more_and_take_fewer_cycles(graph):
    slow = estimate(graph, folding={**FOLDING, "conv": Fold(1, 1)})
    fast = estimate(graph, folding={**FOLDING, "conv": Fold(4, 3)})

    assert fast.dsps >= slow.dsps + 4 * 3 - 1
    assert fast.luts > slow.luts
    assert fast.initiation_interval < slow.initiation_interval


def test_multipliers_of_luts_take_no_dsp(graph):
    cost = estimate(graph, folding={**FOLDING, "fc": Fold(2, 4, "lut")})
    dsp = estimate(graph, folding=FOLDING)

    assert dsp.dsps - cost.dsps == 8
    assert cost.luts > dsp.luts


def test_clock_rate_is_not_made_up_and_the_source_says_what_is_exact(graph):
    cost = estimate(graph)

    assert cost.fmax_mhz is None
    assert "rtl_ffs are exact" in cost.source
    assert "designs left out" in cost.source


def test_a_family_without_a_model_has_cycles_and_no_numbers(graph, monkeypatch):
    unknown = dataclasses.replace(targets.find("gw1n-9").family, name="stratix")
    device = dataclasses.replace(targets.find("gw1n-9"), family=unknown)
    monkeypatch.setattr(targets, "find", lambda name: device)
    cost = estimate(graph, target="gw1n-9", folding=FOLDING)

    assert (cost.luts, cost.ffs, cost.dsps, cost.brams) == (None,) * 4
    assert cost.latency_cycles > 0
    assert "tercet synth" in cost.source


@pytest.mark.parametrize("seed", range(12))
def test_timing_is_that_of_the_design(seed):
    rng = np.random.default_rng(seed)
    folding = {
        "conv": Fold(int(rng.choice([1, 2, 4, 8])), int(rng.choice([1, 3, 9]))),
        "pool": Fold(int(rng.choice([1, 2, 4, 8]))),
        "fc": Fold(int(rng.choice([1, 2, 5, 10])), int(rng.choice([1, 2, 8, 32]))),
    }
    design = prepare(network(), folding)
    cost = estimate_design(design, targets.find(targets.DEFAULT))

    assert cost["latency_cycles"] == design.timing().latency_cycles
    assert cost["initiation_interval"] == design.timing().initiation_interval


def test_the_package_exports_what_programs_use():
    assert tercet.flow.estimate is estimate
    assert tercet.flow.build is build
    assert callable(tercet.flow.run)


def test_no_tool_and_no_framework_is_loaded(tmp_path, graph):
    """Amaranth, torch and Yosys take longer to load than an estimate takes."""
    serialize.save(graph, tmp_path / "graph.json")
    script = (
        "import sys; from tercet.flow.estimator import estimate_command;"
        f"estimate_command({str(tmp_path / 'graph.json')!r});"
        "print(sorted({'amaranth', 'torch', 'pyosys', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.stdout.strip() == "[]"
