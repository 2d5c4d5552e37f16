"""Costs of lanes that vote in time or through three voters: registers, flip-flops, LUTs; traces."""

import numpy as np
import pytest

from tercet.flow import targets
from tercet.flow.costs.layer import layer_resources
from tercet.flow.emit import TOP, emit, voters
from tercet.flow.folding import Goal
from tercet.flow.goals import folded_design
from tercet.flow.netlist import Netlist
from tercet.flow.plan import Plan, Settings, Tmr
from tercet.flow.redundancy import check, elaborate
from tercet.flow.synth import synthesize
from tercet.hw.configure import Fold, Protection, configure
from tercet.quant import ir
from tercet.sim.manifest import Voter

OUT = ir.TensorType(6, False)


def network():
    """A convolution with a table per channel behind it, and a dense layer of raw sums."""
    rng = np.random.default_rng(2)
    scale = ir.Requantize(rng.integers(1 << 12, 1 << 14, 6), np.full(6, 18), OUT)
    conv = ir.Conv2d(
        name="conv", inputs=("x",), weight=rng.integers(-8, 8, (6, 2, 2, 4)), weight_bits=4,
        bias=rng.integers(-99, 99, 6), requantize=scale,
    )  # fmt: skip
    flat = ir.Flatten(name="flat", inputs=("conv",))
    fc = ir.Dense(
        name="fc", inputs=("flat",), weight=rng.integers(-128, 128, (4, 54)),
        bias=rng.integers(-99, 99, 4),
    )  # fmt: skip
    return ir.Graph("g", "x", (4, 4, 4), ir.TensorType(5, False, 1), (conv, flat, fc), "fc")


FOLDINGS = {
    "drained": {"conv": Fold(3, 4), "fc": Fold(2, 6)},
    "one step": {"conv": Fold(2, 16, "lut"), "fc": Fold(1, 54)},
    "unrolled": {"conv": Fold(6, 16, "lut"), "fc": Fold(4, 6, "dsp2")},
}
GUARDS = {
    "some passes": {"mode": "temporal", "neurons": (0, 1)},
    "every pass": {"mode": "temporal", "neurons": (0, 1, 2, 3)},
    "parity": {"mode": "temporal", "neurons": (2, 3), "control": "parity"},
    "triple control": {"mode": "temporal", "neurons": (2, 3), "control": "tmr"},
    "three voters": {"neurons": (0, 2), "voters": 3},
}


def layers_of(folding, guard):
    return configure(network(), FOLDINGS[folding], dict.fromkeys(("conv", "fc"), guard))


@pytest.mark.parametrize("folding", FOLDINGS)
@pytest.mark.parametrize("guard", GUARDS)
def test_registers_of_the_verilog(helper, tmp_path, folding, guard):
    layers = layers_of(folding, Protection(**GUARDS[guard]))
    costs = helper("flow", "test_costs")

    assert costs.estimated_registers(layers) == costs.verilog_registers(layers, tmp_path)


def traced(layers, target, folder):
    """Resources after synthesis, and the redundancy check of every voter."""
    verilog = emit(layers, folder)
    listed = [
        Voter(**{**entry, "replicas": tuple(entry["replicas"])})
        for entry in voters(layers, verilog.read_text())
    ]
    found = synthesize(verilog, TOP, target, workdir=folder / "synth")
    netlist = Netlist.load(folder / "synth" / found["netlist"], TOP)
    reference = elaborate(verilog.name, TOP, workdir=folder)
    return found, check(netlist, listed, reference, target.family)


@pytest.mark.parametrize(
    ("name", "folding", "guard"),
    [
        ("ecp5-85k", "drained", "some passes"),
        pytest.param("ecp5-85k", "one step", "every pass", marks=pytest.mark.slow),
        pytest.param("ecp5-85k", "drained", "three voters", marks=pytest.mark.slow),
        pytest.param("xc7a35t", "one step", "some passes", marks=pytest.mark.slow),
        pytest.param("xc7a35t", "drained", "three voters", marks=pytest.mark.slow),
    ],
)
def test_after_synthesis_flip_flops_are_as_estimated_and_every_voter_is_there(
    tmp_path, name, folding, guard
):
    target = targets.find(name)
    layers = layers_of(folding, Protection(**GUARDS[guard]))

    found, replicas = traced(layers, target, tmp_path)
    estimated = layer_resources(layers, target.family.name)

    assert sum(one.ffs for one in estimated) == pytest.approx(found["ffs"], rel=0.05)
    assert sum(one.luts for one in estimated) == pytest.approx(found["luts"], rel=0.25)
    assert replicas["expected"] > 0
    assert replicas["found"] == replicas["expected"], replicas["voters"]
    assert not any(voter["problems"] for voter in replicas["voters"])


@pytest.mark.parametrize("interval", [200, 75])
def test_a_frame_rate_is_reached_with_repeated_passes(small, interval):
    """The folding knows what the repeated passes cost: more multipliers, the same interval."""
    target = targets.find("ecp5-25k")
    goal = Goal(fps=target.clock_mhz * 1e6 / interval)
    tmr = Settings(tmr=Tmr((0, 3), mode="temporal"))
    plan = Plan(layers=dict.fromkeys(("conv", "hidden", "logits"), tmr))

    plain, hard = (folded_design(small.graph(), target, goal, p, None) for p in (Plan(), plan))

    assert hard.timing().initiation_interval <= interval
    assert any(layer.repeated for layer in hard.layers if layer.name != "pool")
    multipliers = [
        sum(fold.pe * fold.simd for fold in design.folding.values()) for design in (plain, hard)
    ]
    assert multipliers[0] < multipliers[1]
