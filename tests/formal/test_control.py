# amaranth: UnusedElaboratable=no
"""Control registers: with parity every upset raises the alarm at once, in triplicate none shows."""

from unittest import mock

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.control import ControlGroup
from tercet.hw.fifo import OutputFifo
from tercet.hw.fork import Fork
from tercet.hw.registers import RegisterGroup
from tercet.hw.sequencer import Sequencer
from tercet.hw.site import Site
from tercet.hw.skip_fifo import SkipFifo
from tercet.hw.top import layer_component
from tercet.hw.width import Gather, Split
from tercet.hw.window import WindowBuffer
from tercet.quant import ir

from .miter import Claim, alarmed_if_struck, gone_after
from .proof import Proof, first_replica_only, name, prove, refute

SITE = Site("x")


class Counter(wiring.Component):
    """Counts to nine while `go`, and delays `mark` and its inverse by two cycles."""

    def __init__(self, control):
        self.control = control
        super().__init__(
            {"go": In(1), "mark": In(1), "count": Out(4), "late": Out(2), "alarm": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        group = ControlGroup(m, SITE, self.control)
        count = group.register(4, "count")
        with m.If(self.go):
            group.set(count, Mux(count == 9, 0, count + 1))
        marks, parity = group.pipe({"mark": self.mark, "inverse": ~self.mark}, "1")
        marks, _ = group.pipe(marks, "2", parity)
        m.d.comb += [
            self.count.eq(count),
            self.late.eq(marks["mark"] ^ (marks["inverse"] << 1)),
            self.alarm.eq(group.finish()),
        ]
        return m


def layer(op, control):
    """One small layer `x`."""
    image, act = (3, 3, 2), ir.TensorType(2, False, 1)
    rng = np.random.default_rng(0)
    scale = ir.Requantize(np.array([9]), np.array([5]), ir.TensorType(2, False))
    fields, fold = {"name": "x", "inputs": ("i",)}, Fold(2, 2)
    if op == "conv":
        weight = rng.integers(-2, 2, (4, 2, 2, 2))
        node = ir.Conv2d(
            weight=weight, bias=np.arange(4), weight_bits=2, requantize=scale, **fields
        )
    elif op == "dense":
        image, fold = (4,), Fold(4, 2)
        weight = rng.integers(-2, 2, (4, 4))
        node = ir.Dense(weight=weight, bias=np.arange(4), weight_bits=2, **fields)
    elif op == "max":
        node, fold = ir.MaxPool(kernel=(2, 2), stride=(1, 2), **fields), Fold(2)
    else:
        image = (4,)
        node, fold = ir.ArgMax(**fields), Fold(2)
    graph = ir.Graph("g", "i", image, act, (node,), "x")
    return configure(graph, {"x": fold}, {"x": Protection(control=control)})[0]


def sequencer(control):
    return Sequencer(layer("conv", control), 3, SITE)


def window(control):
    return WindowBuffer(layer("conv", control).window, SITE, control=control)


def fifo(control):
    return OutputFifo(2, 2, 4, 2, SITE, lag=1, control=control)


UNITS = {
    "counter and marks": Counter,
    "sequencer": sequencer,
    "window buffer": window,
    "output FIFO": fifo,
    "gather": lambda control: Gather(1, 2, 3, SITE, control=control),
    "split": lambda control: Split(3, 2, 3, SITE, control=control),
    "fork": lambda control: Fork(1, 2, 2, SITE, control=control),
    "skip FIFO": lambda control: SkipFifo(1, 2, 2, SITE, control=control),
    "convolution": lambda control: layer_component(layer("conv", control)),
    "dense layer": lambda control: layer_component(layer("dense", control)),
    "max pool": lambda control: layer_component(layer("max", control)),
    "argmax": lambda control: layer_component(layer("argmax", control)),
}


class Outputs:
    """All outputs of a component, by the names that its Verilog has."""

    def __init__(self, unit):
        self.names = tuple(
            "__".join(map(str, path))
            for path, member, _ in unit.signature.flatten(unit)
            if member.flow is Out
        )


def triplicated(unit):
    make = UNITS[unit]
    return Proof(
        unit=f"control TMR, {unit}",
        struck="control registers of three replicas",
        text="every output = unprotected unit's; replicas equal after 1 cycle",
        claim=Claim(equal=Outputs(make("none")).names),
        golden=lambda: make("none"),
        faulty=lambda: make("tmr"),
        chosen=lambda register: register.replica is not None,
        invariant=gone_after(lambda register: 0),
        broken=first_replica_only,
        breakage="voter y = a",
    )


def masked():
    """The comparator of the first register in each group is tied off."""
    finish = RegisterGroup.finish

    def deaf(self):
        finish(self)
        return Cat(*list(self._broken.values())[1:]).any()

    return mock.patch.object(RegisterGroup, "finish", deaf)


def checked(unit):
    make = UNITS[unit]
    return Proof(
        unit=f"control parity, {unit}",
        struck="control registers and their parity",
        text="alarm in the cycle of the upset, none without; outputs equal until then",
        claim=Claim(
            equal=tuple(n for n in Outputs(make("parity")).names if n != "alarm"),
            flag="alarm",
            latched=True,
            at_once=True,
        ),
        golden=lambda: make("parity"),
        chosen=lambda r: r.role == "control" or "parity_" in r.path,
        invariant=alarmed_if_struck,
        broken=masked,
        breakage="comparator tied off",
    )


FAST = ("counter and marks", "sequencer", "output FIFO")
CHECKED = (*FAST, "window buffer")
PROOFS = [
    pytest.param(make(unit), marks=() if unit in FAST else pytest.mark.slow)
    for make, units in ((triplicated, UNITS), (checked, CHECKED))
    for unit in units
]


@pytest.mark.parametrize("proof", PROOFS, ids=name)
def test_holds(proof, tmp_path, report):
    answer, bits = prove(proof, tmp_path)

    report(proof, answer, bits)
    assert answer.proved


@pytest.mark.parametrize("proof", PROOFS, ids=name)
def test_fails_when_it_is_broken(proof, tmp_path, report):
    cycles, intact = refute(proof, tmp_path)

    report(proof, cycles)
    assert intact == 0
