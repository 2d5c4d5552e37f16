"""A proof: which circuit, which registers are struck, what is claimed, and what breaks it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from amaranth.hdl import Const, Module, Value

from tercet.hw import codes
from tercet.hw.voter import Voter

from .circuit import Register, elaborate
from .engines import Answer, bounded, induction, reachability
from .miter import Claim, Miter, View
from .replay import wrong_cycles

__all__ = ["Proof", "every", "first_replica_only", "name", "prove", "refute", "roles", "unchecked"]


def every(register: Register) -> bool:
    """All registers are struck."""
    return True


def roles(*names: str) -> Callable[[Register], bool]:
    """Registers of these roles are struck."""
    return lambda register: register.role in names


@dataclasses.dataclass(frozen=True)
class Proof:
    """Circuits are made by `golden` and `faulty` (the same if it is None).

    `method` is "induction" (with the invariant that is stated), "reachability" (the checker adds
    to it what is missing) or a depth in cycles. `free`: what the datapath's registers hold at the
    start is free, and the same in both copies. `broken` is a context in which the voter or checker
    does not work; `broken_depth` bounds the search for what then goes wrong.
    """

    unit: str
    struck: str
    text: str
    claim: Claim
    golden: Callable[[], Any]
    broken: Callable[[], contextlib.AbstractContextManager[Any]]
    breakage: str
    faulty: Callable[[], Any] | None = None
    chosen: Callable[[Register], bool] = every
    invariant: Callable[[View], Value] | None = None
    method: str | int = "induction"
    broken_depth: int = 12
    free: bool = True

    def miter(self, workdir: Path, *, harm: bool = False) -> Miter:
        """Both copies, elaborated now; with `harm` for wrong outputs without a flag only."""
        golden = elaborate(self.golden(), workdir, "golden")
        faulty = golden if self.faulty is None else elaborate(self.faulty(), workdir, "faulty")
        struck = tuple(r for r in faulty.registers if self.chosen(r))
        return Miter(
            golden,
            faulty,
            claim=self.claim.harm if harm else self.claim,
            struck=struck,
            free=self.free,
            invariant=self.invariant,
        )


def name(proof: Proof) -> str:
    """The test's name."""
    return proof.unit


def first_replica_only() -> Any:
    """Voters with y = a."""

    def elaborate(self: Voter, platform: object) -> Module:
        m = Module()
        m.d.comb += self.y.eq(self.a)
        return m

    return mock.patch.object(Voter, "elaborate", elaborate)


def unchecked() -> Any:
    """Words are read as they are; what their codes find is dropped."""

    def check(m: Module, kind: str, value: Value, code: Value) -> tuple[Value, Value]:
        return value, Const(0, 1)

    return mock.patch.object(codes, "check", check)


def prove(proof: Proof, workdir: Path) -> tuple[Answer, int]:
    """The answer for the circuit as it is, and how many bits can be struck."""
    miter = proof.miter(workdir)
    if proof.method == "induction":
        return induction(miter, workdir), miter.bits
    if proof.method == "reachability":
        return reachability(miter, workdir), miter.bits
    return bounded(miter, workdir, depth=int(proof.method)), miter.bits


def refute(proof: Proof, workdir: Path) -> tuple[int, int]:
    """Cycles until the broken circuit's output is wrong and unflagged, and the intact one's count.

    AssertionError unless there is a counterexample and the simulator shows the same.
    """
    faulty = proof.faulty or proof.golden
    with proof.broken():
        miter = proof.miter(workdir, harm=True)
        answer = bounded(miter, workdir, depth=proof.broken_depth)
        found = answer.counterexample
        assert found is not None, f"{proof.unit}: holds although {proof.breakage}"
        wrong = wrong_cycles(miter, found, proof.golden, faulty)
    assert wrong, f"{proof.unit}: the simulator does not show the counterexample"
    intact = wrong_cycles(proof.miter(workdir), found, proof.golden, faulty)
    return len(found.cycles), len(intact)
