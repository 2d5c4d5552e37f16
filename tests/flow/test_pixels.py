"""Several pixels a cycle from the command's side: rates, files, costs, manifests, refusals."""

import itertools
import json

import numpy as np
import pytest

from tercet.flow import targets
from tercet.flow.builder import build, build_design
from tercet.flow.design import prepare
from tercet.flow.estimator import estimate_command, estimate_design
from tercet.flow.folding import Goal, Solver, balance, load_folding
from tercet.flow.goals import folded_design
from tercet.flow.plan import Plan
from tercet.flow.plan_file import parse_plan
from tercet.flow.sources import built_design
from tercet.hw.configure import Fold, circuit_nodes, configure
from tercet.quant import ir, serialize
from tercet.quant.errors import InputError
from tercet.sim.expected import random_frames

XC7 = targets.find("xc7a100t")


def conv(name, source, shape, rng, **fields):
    scale = ir.Requantize(rng.integers(900, 2000, shape[0]), np.full(shape[0], 14), ACT)
    return ir.Conv2d(
        name=name, inputs=(source,), weight=rng.integers(-8, 8, shape), weight_bits=4,
        bias=rng.integers(-50, 50, shape[0]), requantize=scale, **fields,
    )  # fmt: skip


ACT = ir.TensorType(4, False, zero_point=2)
SAME = {"padding": (1, 1, 1, 1)}


def network():
    """8x8 image: padded convolution of stride 2, depthwise, 1x1, maximum, mean, four logits."""
    rng = np.random.default_rng(0)
    fc = ir.Dense(
        name="fc", inputs=("flat",), weight=rng.integers(-8, 8, (4, 4)), bias=np.zeros(4, int),
        weight_bits=4,
    )  # fmt: skip
    mean = ir.Requantize(np.array([16384]), np.array([16]), ACT)
    nodes = (
        conv("half", "x", (4, 3, 3, 2), rng, stride=(2, 2), **SAME),
        conv("depth", "half", (4, 3, 3, 1), rng, groups=4, **SAME),
        conv("point", "depth", (4, 1, 1, 4), rng),
        ir.MaxPool(name="best", inputs=("point",), kernel=(3, 3), stride=(1, 1), **SAME),
        ir.GlobalAvgPool(name="mean", inputs=("best",), requantize=mean),
        ir.Flatten(name="flat", inputs=("mean",)),
        fc,
    )
    return ir.Graph("wide", "x", (8, 8, 2), ACT, nodes, "fc")


def reach(graph, interval, plan=None, target=XC7):
    goal = Goal(fps=target.clock_mhz * 1e6 / interval)
    return folded_design(graph, target, goal, plan or Plan(), None)


@pytest.mark.parametrize("interval", [32, 16, 8])
def test_rates_beyond_a_pixel_a_cycle_are_reached(interval):
    design = reach(network(), interval)

    assert design.timing().initiation_interval <= interval
    assert design.folding["half"].pixels >= 32 // interval


def test_pixels_are_as_few_as_the_rate_needs():
    few, many = (reach(network(), interval).folding for interval in (16, 8))

    assert {name: fold.pixels for name, fold in few.items()} == {
        "half": 2, "depth": 1, "point": 1, "best": 1, "mean": 1, "fc": 1,
    }  # fmt: skip
    assert few["best"].simd == 9
    assert {many[name].pixels for name in ("half", "depth", "point", "best", "mean")} == {2, 4}


@pytest.mark.parametrize("interval", [64, 100, 1000])
def test_a_rate_that_a_pixel_a_cycle_meets_takes_no_more(interval):
    graph = network()

    assert {fold.pixels for fold in reach(graph, interval).folding.values()} == {1}


def test_no_wish_means_one_pixel_a_cycle():
    assert {fold.pixels for fold in balance(network(), 10_000).values()} == {1}


def test_a_rate_out_of_reach_names_the_layer_and_its_fastest_interval():
    with pytest.raises(
        InputError, match="layer half: takes 8 cycles a frame when fully parallel, more than the 4"
    ):
        reach(network(), 4)


def test_a_hardened_network_reaches_them_as_well():
    plan = parse_plan({"default": {"checksum": {"modulus": 3}}}, "plan")

    design = reach(network(), 16, plan)

    assert design.timing().initiation_interval <= 16
    assert all(layer.checked for layer in design.layers if layer.name != "mean")
    assert {layer.name for layer in design.layers if getattr(layer, "modulus", None)} == {
        "half", "depth", "point", "fc",
    }  # fmt: skip


FOLD = """
[layer.half]
pe = 4
simd = 18
pixels = 2
[layer.best]
pe = 4
simd = 9
pixels = 4
"""


@pytest.fixture
def files(tmp_path):
    """Folder with graph.json and f.toml."""
    serialize.save(network(), tmp_path / "graph.json")
    (tmp_path / "f.toml").write_text(FOLD)
    return tmp_path


def test_pixels_in_a_file(files):
    folding = load_folding(files / "f.toml", network())

    assert folding["half"] == Fold(4, 18, pixels=2)
    assert folding["best"] == Fold(4, 9, pixels=4)
    assert folding["depth"] == balance(network())["depth"]


def test_explain_names_the_pixels(files):
    result = estimate_command(
        str(files / "graph.json"), fold=str(files / "f.toml"), target="xc7a100t", explain=True
    )

    layers = {layer["layer"]: layer for layer in result["explain"]}
    assert (layers["half"]["pixels"], layers["half"]["multipliers"]) == (2, 2 * 4 * 18)
    assert layers["half"]["cycles_per_frame"] == 16
    assert (layers["best"]["pixels"], layers["best"]["simd"]) == (4, 9)


def test_a_build_states_pixels_and_is_read_back(files):
    out = files / "design"
    build(str(files / "graph.json"), out, fold=str(files / "f.toml"), target="xc7a100t")
    manifest = json.loads((out / "manifest.json").read_text())
    half = next(layer for layer in manifest["layers"] if layer["name"] == "half")

    assert manifest["folding"]["half"]["pixels"] == half["folding"]["pixels"] == 2
    assert (manifest["input"]["lanes"], manifest["input"]["beats"]) == (4 * 2, 16)
    assert manifest["taps"][0]["lanes"] == 2 * 4
    assert built_design(out, plan=None, goal=Goal())[0].folding["half"] == Fold(4, 18, pixels=2)
    for fold in manifest["folding"].values():  # as builds had it before
        del fold["pixels"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert built_design(out, plan=None, goal=Goal())[0].folding["half"].pixels == 1


@pytest.mark.parametrize("seed", [0, 3])
def test_registers_of_the_verilog(tmp_path, broad_network, helper, seed):
    layers = configure(*broad_network(np.random.default_rng(seed)))

    helper("flow", "test_join_costs").check(layers, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 230))
def test_registers_of_more_networks(tmp_path, broad_network, helper, seed):
    layers = configure(*broad_network(np.random.default_rng(seed)))

    helper("flow", "test_join_costs").check(layers, tmp_path)


def test_more_pixels_cost_more():
    solver = Solver(network(), XC7)
    for node in circuit_nodes(network()):
        broad = [one for one in solver.shapes[node.name] if one.breadth > 1]
        costs = [solver.cost(one) for one in sorted(broad, key=lambda one: one.breadth)]

        for less, more in itertools.pairwise(costs):
            assert (more[:2] > less[:2]).all()


def test_multipliers_are_as_many_times_more_as_there_are_pixels():
    """Less those that pixels share: the same weight times the same element."""
    graph = network()
    one, two = (
        estimate_design(prepare(graph, {"half": Fold(4, 18, pixels=n)}), XC7) for n in (1, 2)
    )

    assert one["dsps"] < two["dsps"] <= 2 * one["dsps"]
    assert two["initiation_interval"] <= one["initiation_interval"]


@pytest.mark.slow
def test_digits_four_pixels_a_cycle():
    """64 pixels in 16 cycles, on a device."""
    from tercet.quant.models.digits import digits_network

    for name in ("ecp5-85k", "xc7a100t"):
        target = targets.find(name)
        design = reach(digits_network(0), 16, target=target)

        assert design.timing().initiation_interval == 16
        assert design.folding["conv1"].pixels == 4
        assert not target.excess(estimate_design(design, target))


@pytest.mark.slow
@pytest.mark.verilator
@pytest.mark.parametrize("interval", [16, 8])
def test_the_verilog_is_verified(tmp_path, interval):
    from tercet.sim.verify import verify

    graph = network()
    design = reach(graph, interval)
    frames = random_frames(graph, 12, 0)
    build_design(design, tmp_path / "design", target="xc7a100t", frames=frames)

    result = verify(tmp_path / "design")

    assert result["mismatches"] == 0
    assert result["initiation_interval"] == design.timing().initiation_interval <= interval
    assert all(bench["passed"] for bench in result["benches"])
