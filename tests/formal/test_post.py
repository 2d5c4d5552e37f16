# amaranth: UnusedElaboratable=no
"""Registers behind the accumulators: compared ones complain at once, triplicates show nothing."""

from unittest import mock

import numpy as np
import pytest
from amaranth.hdl import Const

from tercet.hw.registers import RegisterGroup
from tercet.hw.requantize import requantizer
from tercet.hw.site import Site
from tercet.hw.unit_registers import UnitGuard
from tercet.quant import ir

from .miter import Claim, alarmed_if_struck, gone_after
from .proof import Proof, first_replica_only, name, prove, refute

OUT = ir.TensorType(2, False)
KINDS = {
    "requantiser": ir.Requantize(np.array([3, 5]), np.array([4, 3]), OUT),
    "requantiser without multiplier": ir.Requantize(np.array([1]), np.array([2]), OUT),
    "threshold unit": ir.Thresholds(np.array([[-3, 1, 5], [-6, 0, 2]]), OUT),
}


def unit(kind, post):
    """A unit for two channels with accumulators of six bits."""
    return requantizer(KINDS[kind], [0, 1], 6, Site("x"), UnitGuard(post))


def triplicated(kind):
    return Proof(
        unit=f"post TMR, {kind}",
        struck="registers of three replicas",
        text="result = unprotected unit's; replicas equal after 1 cycle",
        claim=Claim(equal=("q",)),
        golden=lambda: unit(kind, "none"),
        faulty=lambda: unit(kind, "tmr"),
        chosen=lambda register: register.replica is not None,
        invariant=gone_after(lambda register: 0),
        broken=first_replica_only,
        breakage="voter y = a",
    )


def deaf():
    """No register of a group is compared."""
    return mock.patch.object(RegisterGroup, "fault", return_value=Const(0, 1))


def compared(kind, post):
    return Proof(
        unit=f"post {post}, {kind}",
        struck="registers and what they are compared with",
        text="a rank is reported in the cycle of the upset, none without; result right until then",
        claim=Claim(equal=("q",), flag="broken", latched=True, at_once=True),
        golden=lambda: unit(kind, post),
        invariant=alarmed_if_struck,
        broken=deaf,
        breakage="comparators tied off",
        free=False,
    )


FAST = ("requantiser without multiplier",)
PROOFS = [
    pytest.param(proof, marks=() if kind in FAST else pytest.mark.slow)
    for kind in KINDS
    for proof in (triplicated(kind), compared(kind, "parity"), compared(kind, "dup"))
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
