"""Networks trained once and kept, candidates judged by every objective."""

import dataclasses
import json
import pickle
import shutil

import pytest

from tercet.flow import targets
from tercet.flow.design import prepare
from tercet.flow.estimator import estimate
from tercet.flow.plan import Bound, Plan, Settings
from tercet.flow.plan_file import parse_plan
from tercet.flow.resilience import resilience_estimate
from tercet.flow.search import topology, training
from tercet.flow.search.candidate import Candidate, NetworkSpec, StageSpec
from tercet.flow.search.evaluate import Evaluator, folding
from tercet.flow.search.objectives import NAMES
from tercet.flow.search.space import TrainSpec
from tercet.flow.search.space_file import load_space
from tercet.quant import reference
from tercet.quant.errors import InputError
from tercet.quant.ir import Conv2d, Dense
from tercet.quant.quantize import quantize_input
from tercet.quant.sensitivity import measure

SPACE = """
network = { family = "residual", stages = 1, blocks = 1, width = [3, 4], kernel = [1, 3], head = "mean", act_bits = 4 }
train = { epochs = 1, seed = 3 }
[hardware]
target = "ecp5-25k"
interval = [64, 576]
multiplier = ["dsp", "lut"]
plan = ["none", "parity", "triple"]
[plans.parity.default]
checksum = { modulus = 3 }
weights = "parity"
[plans.triple.default]
tmr = { share = 0.3 }
[objectives]
minimise = ["error", "luts"]
"""  # noqa: E501
SPEC = NetworkSpec("residual", (StageSpec(1, 3, 3),), "mean", 8, 4, "scale", (1, 8, 8), 10)
PLAIN = Candidate(SPEC, 576, "dsp", "none")


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "space.toml"
    path.write_text(SPACE)
    return dataclasses.replace(load_space(path), objectives=NAMES)


@pytest.fixture(scope="module")
def evaluator(space, tmp_path_factory):
    found = Evaluator(space, tmp_path_factory.mktemp("search"))
    found.train_network(SPEC)
    return found


@pytest.fixture
def untrained(monkeypatch):
    """From here on training is a failure."""

    def fail(*args, **kwargs):
        raise AssertionError("a network was trained again")

    monkeypatch.setattr(training, "train", fail)


def select_frames(evaluator, graph):
    return quantize_input(graph, evaluator.images.select_x)


def test_the_error_is_that_of_the_integers_on_the_select_images(evaluator):
    found = evaluator.train_network(SPEC)
    scores = reference.run(found.graph, select_frames(evaluator, found.graph))
    right = (scores.argmax(axis=1) == evaluator.images.select_y).mean()

    assert 0 < found.error < 1
    assert found.error == pytest.approx(1 - right)


def test_the_sensitivity_is_that_of_the_calibration_images(evaluator):
    found = evaluator.train_network(SPEC)
    frames = quantize_input(found.graph, evaluator.images.calibration_x)
    seed = training.training_seed(SPEC, evaluator.space.train)
    again = measure(found.graph, frames, seed=seed, images=64, trials=384)

    assert found.sensitivity.to_json() == again.to_json()


def test_bits_are_those_of_the_network(evaluator):
    graph = evaluator.train_network(SPEC).graph

    assert graph.node("s1b1_conv1").requantize.out.bits == 4
    assert {node.weight_bits for node in graph if isinstance(node, Conv2d | Dense)} == {8}


@pytest.mark.usefixtures("untrained")
def test_a_network_that_is_there_is_read(evaluator):
    fresh = Evaluator(evaluator.space, evaluator.folder)

    assert fresh.evaluate(PLAIN) == evaluator.evaluate(PLAIN)


def test_training_is_repeatable(evaluator, tmp_path):
    other = Evaluator(evaluator.space, tmp_path)
    other.train_network(SPEC)
    first, again = (e.folder / "networks" / SPEC.digest for e in (evaluator, other))

    assert sorted(p.name for p in again.iterdir()) == [
        "graph.json",
        "metrics.json",
        "sensitivity.json",
    ]
    assert [p.name for p in again.parent.iterdir()] == [SPEC.digest]
    for path in again.iterdir():
        assert path.read_bytes() == (first / path.name).read_bytes()


@pytest.mark.usefixtures("untrained")
def test_all_circuits_of_a_network_share_its_training(evaluator):
    one = evaluator.evaluate(PLAIN)
    fast = evaluator.evaluate(dataclasses.replace(PLAIN, interval=64, multiplier="lut"))

    assert fast["error"] == one["error"]
    assert fast["initiation_interval"] < one["initiation_interval"]
    assert fast["luts"] > one["luts"]


def test_circuits_meet_the_interval_and_have_the_multipliers_asked_for(evaluator):
    graph = evaluator.train_network(SPEC).graph
    found = folding(graph, dataclasses.replace(PLAIN, interval=600, multiplier="lut"))
    design = prepare(graph, found)

    assert max(layer.cycles_per_frame for layer in design.layers) <= 600
    assert {found[n.name].multiplier for n in graph if isinstance(n, Conv2d | Dense)} == {"lut"}


def test_objectives_are_those_of_the_design(evaluator):
    candidate = dataclasses.replace(PLAIN, plan_name="parity")
    found = evaluator.evaluate(candidate)
    network = evaluator.train_network(SPEC)
    plan = parse_plan({"default": {"checksum": {"modulus": 3}, "weights": "parity"}}, "a test")
    folds = folding(network.graph, candidate)
    design = prepare(network.graph, folds, plan)
    cost = estimate(network.graph, target="ecp5-25k", folding=folds, plan=plan)
    risk = resilience_estimate(design, network.sensitivity)

    assert list(found) == list(NAMES)
    assert found["error"] == network.error
    assert found["vulnerable_bit_cycles"] == risk.vulnerable_bit_cycles
    for name in ("luts", "ffs", "dsps", "brams", "latency_cycles", "initiation_interval"):
        assert found[name] == getattr(cost, name)
    assert found["macs"] == topology.macs(network.graph) > 0
    assert found["parameters"] == topology.parameters(network.graph) > 0
    assert found["adcr"] == topology.adcr(network.graph) > 0
    shape = topology.asi(network.graph)
    assert [found[f"asi_{name}"] for name in ("fault", "ber", "worst")] == [
        shape.per_fault,
        shape.per_ber,
        shape.worst,
    ]


def test_a_plan_takes_vulnerability_off(evaluator):
    plain = evaluator.evaluate(PLAIN)
    found = evaluator.evaluate(dataclasses.replace(PLAIN, plan_name="parity"))

    assert found["vulnerable_bit_cycles"] < plain["vulnerable_bit_cycles"]
    assert found["luts"] > plain["luts"]
    assert found["error"] == plain["error"]


def test_a_share_is_chosen_on_the_select_images(evaluator):
    candidate = dataclasses.replace(PLAIN, plan_name="triple")
    design = evaluator.design(candidate)
    frames = select_frames(evaluator, design.graph)
    plan = parse_plan({"default": {"tmr": {"share": 0.3}}}, "a test")
    again = prepare(design.graph, folding(design.graph, candidate), plan, frames)

    assert any(guard.neurons for guard in design.protection.values())
    assert design.protection == again.protection


def test_bounds_are_judged_with_the_graph_that_they_give(evaluator):
    plan = Plan(Settings(bound=Bound("zero", "layer")))
    space = dataclasses.replace(evaluator.space, plans={"bound": plan})
    bounded = Evaluator(space, evaluator.folder)
    candidate = dataclasses.replace(PLAIN, plan_name="bound")
    found = bounded.evaluate(candidate)
    graph = bounded.design(candidate).graph
    scores = reference.run(graph, select_frames(bounded, graph))

    assert graph is not bounded.train_network(SPEC).graph
    assert found["error"] == 1 - (scores.argmax(axis=1) == bounded.images.select_y).mean()
    assert found["vulnerable_bit_cycles"] > 0


def test_evaluators_travel_to_other_processes(evaluator):
    copy = pickle.loads(pickle.dumps(evaluator))

    assert copy.evaluate(PLAIN) == evaluator.evaluate(PLAIN)
    assert copy.space.digest == evaluator.space.digest


def test_only_what_is_asked_for_is_given(evaluator):
    space = dataclasses.replace(evaluator.space, objectives=("macs", "error"))
    found = Evaluator(space, evaluator.folder).evaluate(PLAIN)

    assert list(found) == ["macs", "error"]


def own(evaluator, folder, code):
    (folder / "own.py").write_text(code)
    space = dataclasses.replace(evaluator.space, objectives=("own.py:cost",), folder=folder)
    return Evaluator(space, evaluator.folder)


def test_an_objective_of_ones_own_sees_graph_and_design(evaluator, tmp_path):
    code = "def cost(graph, design): return len(graph.nodes) + len(design.layers) / 100"
    found = own(evaluator, tmp_path, code).evaluate(PLAIN)
    design = evaluator.design(PLAIN)

    assert found == {"own.py:cost": len(design.graph.nodes) + len(design.layers) / 100}


@pytest.mark.parametrize("value", ["float('nan')", "'cheap'", "None"])
def test_an_objective_of_ones_own_must_be_a_number(evaluator, tmp_path, value):
    found = own(evaluator, tmp_path, f"def cost(graph, design): return {value}")
    with pytest.raises(InputError, match=r"objective own.py:cost: gave .*, not a finite number"):
        found.evaluate(PLAIN)


def test_what_an_objective_raises_is_passed_on(evaluator, tmp_path):
    found = own(evaluator, tmp_path, "def cost(graph, design): return 1 / 0")
    with pytest.raises(ZeroDivisionError):
        found.evaluate(PLAIN)


def test_what_the_quantiser_refuses_is_told(evaluator):
    spec = dataclasses.replace(SPEC, weight_bits=9)
    with pytest.raises(InputError, match=r"^weight_bits must be 2\.\.8, not 9$"):
        evaluator.evaluate(dataclasses.replace(PLAIN, network=spec))


@pytest.mark.parametrize("train", [TrainSpec(epochs=2, seed=3), TrainSpec(epochs=1, seed=4)])
def test_networks_of_another_space_are_refused(evaluator, train):
    space = dataclasses.replace(evaluator.space, train=train)
    with pytest.raises(InputError, match=r"was trained for another space .* give another folder"):
        Evaluator(space, evaluator.folder).train_network(SPEC)


def test_two_processes_may_train_the_same_network(evaluator, tmp_path, monkeypatch):
    found, place = evaluator.train_network(SPEC), tmp_path / "networks" / SPEC.digest

    def overtaken(*args):
        shutil.copytree(evaluator.folder / "networks" / SPEC.digest, place)
        return found

    monkeypatch.setattr(training, "_train", overtaken)
    other = Evaluator(evaluator.space, tmp_path)

    assert other.train_network(SPEC) is found
    assert [path.name for path in place.parent.iterdir()] == [SPEC.digest]


@pytest.mark.usefixtures("untrained")
def test_what_fails_leaves_nothing_behind(evaluator, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training, "_train", lambda *args: evaluator.train_network(SPEC))
    monkeypatch.setattr(training, "_write", full)
    with pytest.raises(InputError, match=r"cannot be written: No space left on device"):
        Evaluator(evaluator.space, tmp_path).train_network(SPEC)

    assert list((tmp_path / "networks").iterdir()) == []


def test_a_broken_network_is_named(evaluator, tmp_path):
    folder = tmp_path / "networks" / SPEC.digest
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"error": "high"}))
    with pytest.raises(InputError, match=f"^networks/{SPEC.digest}: cannot be read; remove it"):
        Evaluator(evaluator.space, tmp_path).train_network(SPEC)


def test_each_network_has_a_seed_of_its_own():
    train = TrainSpec(epochs=1, seed=3)
    other = dataclasses.replace(SPEC, head="flatten")
    seeds = {
        training.training_seed(SPEC, train),
        training.training_seed(other, train),
        training.training_seed(SPEC, TrainSpec(epochs=1, seed=4)),
    }

    assert len(seeds) == 3


def test_the_target_counts(evaluator):
    space = dataclasses.replace(evaluator.space, target="xc7a35t")
    found = Evaluator(space, evaluator.folder).evaluate(PLAIN)

    assert targets.find("xc7a35t").family != targets.find("ecp5-25k").family
    assert found["luts"] != evaluator.evaluate(PLAIN)["luts"]
