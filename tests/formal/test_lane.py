# amaranth: UnusedElaboratable=no
"""Lanes in triple modular redundancy: the voted accumulator is the plain lane's in every cycle."""

import dataclasses
import re

import numpy as np
import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from tercet.hw.configure import Fold, configure
from tercet.hw.lane import Lane
from tercet.hw.site import Site
from tercet.hw.votes import vote_in_space
from tercet.quant import ir

from .miter import Claim, gone_after
from .proof import Proof, first_replica_only, name, prove, refute

UNSIGNED = ir.TensorType(3, False)
RANKS = ("weight_latch", "weight", "product", "sum", "acc")
"""Registers of a lane in the order of the data: a deviation is that many cycles old at most."""


def rank(register):
    """Cycles after an upset anywhere in the lane in which `register` may still be wrong."""
    return RANKS.index(re.sub(r"[_\d]+$", "", register.path.split(".")[-1]))


def layer(fold, act=UNSIGNED, weight_bits=4, features=6, neurons=4):
    """A dense layer of random weights."""
    rng = np.random.default_rng(3)
    limit = 1 << (weight_bits - 1)
    weight = rng.integers(-limit, limit, (neurons, features))
    bias = rng.integers(-20, 20, neurons)
    if weight_bits == 1:
        weight = 2 * rng.integers(0, 2, (neurons, features)) - 1
    node = ir.Dense(name="fc", inputs=("x",), weight=weight, bias=bias, weight_bits=weight_bits,
        weight_bipolar=weight_bits == 1,
    )  # fmt: skip
    graph = ir.Graph("g", "x", (features,), act, (node,), "fc")
    return configure(graph, {"fc": fold})[0]


class VotedLane(wiring.Component):
    """Lane 0 of a layer, alone or as three replicas behind the voters of `hw.votes`."""

    def __init__(self, config, replicas):
        self.config, self.replicas = config, replicas
        (lane,) = self._lanes(1)
        members = dict(lane.signature.members)
        del members["acc_in"], members["acc"]
        self.inputs = tuple(members)
        super().__init__({**members, "acc": Out(signed(config.acc_bits))})

    def _lanes(self, count):
        return [Lane(self.config, 0, Site("fc", 0, n if count > 1 else None)) for n in range(count)]

    def elaborate(self, platform):
        m = Module()
        lanes = self._lanes(self.replicas)
        for number, lane in enumerate(lanes):
            m.submodules[f"lane_0_r{number}"] = lane
            m.d.comb += [getattr(lane, name).eq(getattr(self, name)) for name in self.inputs]
        m.d.comb += self.acc.eq(vote_in_space(m, self.config, 0, lanes))
        return m


def proof(name, config):
    return Proof(
        unit=f"TMR lane, {name}",
        struck="every register of three replicas",
        text=f"voted accumulator = plain lane's; replicas equal after {len(RANKS)} cycles",
        claim=Claim(equal=("acc",)),
        golden=lambda: VotedLane(config, 1),
        faulty=lambda: VotedLane(config, 3),
        invariant=gone_after(rank),
        broken=first_replica_only,
        breakage="voter y = a",
    )


SLOW = [
    proof("signed", layer(Fold(2, 2), ir.TensorType(3, True))),
    proof("LUT multipliers", layer(Fold(2, 2, "lut"))),
    proof("block RAM", layer(Fold(2, 2, weights="block"))),
    proof("one word", layer(Fold(4, 4), features=4)),
    proof("three voters", dataclasses.replace(layer(Fold(2, 2)), voters=3)),
]
PROOFS = [
    proof("2 x 4-bit", layer(Fold(2, 2))),
    proof("bipolar", layer(Fold(2, 3), ir.TensorType(1, True, bipolar=True), 1)),
    *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW),
]


@pytest.mark.parametrize("proof", PROOFS, ids=name)
def test_holds(proof, tmp_path, report):
    answer, bits = prove(proof, tmp_path)

    report(proof, answer, bits)
    assert answer.proved


@pytest.mark.parametrize("proof", PROOFS, ids=name)
def test_fails_with_a_broken_voter(proof, tmp_path, report):
    cycles, intact = refute(proof, tmp_path)

    report(proof, cycles)
    assert intact == 0
