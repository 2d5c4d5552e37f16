"""Hardened networks on every family of targets: each voter is traced to three registers."""

import json

import numpy as np
import pytest

from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.plan import Checksum, Plan, Settings, Tmr
from tercet.flow.synth import synth
from tercet.hw.configure import Fold
from tercet.quant import ir
from tercet.sim import manifest as manifests

TARGETS = ["ecp5-25k", "ice40-hx8k", "gw1n-9", "xc7a35t"]
PLAN = Plan(
    Settings(Checksum(3)), {"conv": Settings(tmr=Tmr((1, 4))), "logits": Settings(tmr=Tmr((0,)))}
)


@pytest.fixture(scope="module")
def neuron(tmp_path_factory):
    """One lane in triplicate."""
    node = ir.Dense(
        name="fc", inputs=("x",), weight=np.array([[3, -2], [1, 2]]), bias=np.array([4, -1]),
        weight_bits=3,
    )  # fmt: skip
    graph = ir.Graph("g", "x", (2,), ir.TensorType(3, False), (node,), "fc")
    out = tmp_path_factory.mktemp("neuron") / "design"
    build_design(
        prepare(graph, {"fc": Fold(1, 1)}, Plan(layers={"fc": Settings(tmr=Tmr((0,)))})), out
    )
    return out


@pytest.fixture(scope="module")
def network(small, tmp_path_factory):
    """The small network with checksums, control parity and two lanes in triplicate."""
    out = tmp_path_factory.mktemp("network") / "design"
    build_design(prepare(small.graph(), small.FOLDING, PLAN), out)
    return out


def check(design, target):
    """Synthesise; every bit of every voter is found with its three registers."""
    found = synth(design, target=target)
    voters = manifests.load(design).voters
    replicas = found["replicas"]
    assert replicas["expected"] == replicas["found"] == sum(voter.width for voter in voters) > 0
    assert found["target"] == target
    assert found["luts"] > 20
    assert found["ffs"] >= 3 * replicas["found"]
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_a_lane_in_triplicate_survives(neuron, target):
    found = check(neuron, target)

    assert json.loads((neuron / f"synth_{target}.json").read_text()) == found


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_hardened_network_survives(network, target):
    check(network, target)


@pytest.mark.slow
def test_hardening_costs_less_than_the_network_three_times(small, network, tmp_path):
    plain = tmp_path / "plain"
    build_design(prepare(small.graph(), small.FOLDING), plain)

    before, after = synth(plain, target="ecp5-25k"), synth(network, target="ecp5-25k")

    assert before["replicas"]["expected"] == before["replicas"]["found"] == 0
    assert before["luts"] < after["luts"] < 3 * before["luts"]
    assert before["ffs"] < after["ffs"] < 3 * before["ffs"]
