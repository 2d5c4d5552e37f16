"""Two copies of a circuit on the same inputs, an upset in one of them, and what must hold.

The upset is free: one bit of the struck registers, in one cycle that the solver chooses, or none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    Instance,
    Module,
    Signal,
    Value,
)

from .circuit import Circuit, Register, instrument

__all__ = [
    "Claim",
    "Miter",
    "View",
    "alarmed_if_struck",
    "equal_until_struck",
    "gone_after",
    "one_bit_deviates",
    "one_replica_deviates",
]

AGE_BITS = 4


@dataclasses.dataclass(frozen=True)
class Claim:
    """Outputs `equal` agree with the golden copy's, or the struck copy's `flag` is up.

    They count in cycles in which the golden copy's `when` is one (always, without it). With
    `latched` the flag of an earlier cycle counts too. With `at_once` the flag is one in the very
    cycle of the upset, whatever it hits; with `quiet` the golden copy never raises its flag while
    it counts: a checker that always complains proves nothing.
    """

    equal: tuple[str, ...]
    flag: str | None = None
    when: str | None = None
    latched: bool = False
    at_once: bool = False
    quiet: bool = True

    @property
    def harm(self) -> Claim:
        """What is left when only wrong outputs without a flag are looked for."""
        return dataclasses.replace(self, at_once=False, quiet=False)


@dataclasses.dataclass(frozen=True)
class View:
    """What an invariant may speak of: registers and memory words of both copies, and the upset.

    `struck`: it is in this cycle or was before; `age`, cycles since then (up to 15); `seen`: the
    flag was up in an earlier cycle. `outputs` are the golden copy's.
    """

    outputs: dict[str, Signal]
    golden: dict[str, Signal]
    faulty: list[tuple[Register, Signal]]
    struck: Value
    age: Value
    seen: Value

    def deviation(self, register: Register, value: Signal) -> Value:
        """The struck copy's register differs from the golden one of the same key."""
        return value != self.golden[register.key]

    def equal(self) -> Value:
        """Both copies hold the same."""
        return ~Cat(self.deviation(*pair) for pair in self.faulty).any()


def equal_until_struck(view: View) -> Value:
    """Until the upset both copies hold the same."""
    return view.struck | view.equal()


def alarmed_if_struck(view: View) -> Value:
    """Until the upset both copies hold the same, and then the flag was up in its cycle."""
    return equal_until_struck(view) & ((view.age == 0) | view.seen)


def one_bit_deviates(view: View) -> Value:
    """At most one bit of all registers differs from the golden copy."""
    bits = Cat(s ^ view.golden[r.key] for r, s in view.faulty)
    return equal_until_struck(view) & ((bits & (bits - 1)[: len(bits)]) == 0)


def one_replica_deviates(view: View) -> Value:
    """At most one of three replicas differs from the golden copy, nothing else ever does."""
    alone = [view.deviation(r, s) for r, s in view.faulty if r.replica is None]
    wrong = [
        Cat(view.deviation(r, s) for r, s in view.faulty if r.replica == n).any() for n in range(3)
    ]
    pairs = [wrong[0] & wrong[1], wrong[0] & wrong[2], wrong[1] & wrong[2]]
    return equal_until_struck(view) & ~Cat(*alone, *pairs).any()


def gone_after(rank: Callable[[Register], int]) -> Callable[[View], Value]:
    """`one_replica_deviates`, and no register differs more than `rank` cycles after the upset."""

    def holds(view: View) -> Value:
        late = [view.deviation(r, s) & (view.age > rank(r)) for r, s in view.faulty]
        return one_replica_deviates(view) & ~Cat(*late).any()

    return holds


class Miter:
    """Golden and struck copy side by side.

    Inputs: the circuit's own (`in_<port>`), `reset`, the registers' values at the start
    (`start_<number>`, of the golden copy's register), `fire` and `place` of the upset. Outputs:
    `bad`, the claim fails in this cycle; `inductive`, it holds and the invariant too.
    """

    def __init__(
        self,
        golden: Circuit,
        faulty: Circuit,
        *,
        claim: Claim,
        struck: tuple[Register, ...],
        free: bool = True,
        invariant: Callable[[View], Value] | None = None,
    ) -> None:
        assert struck, "no register is struck"
        assert golden.ports == faulty.ports, "the copies have other ports"
        self.golden, self.faulty, self.claim = golden, faulty, claim
        self.struck, self.invariant = struck, invariant
        self.free = [r for r in golden.registers if free and not r.has_reset]
        keys = {r.key for r in self.free}
        self.copies = [r for r in faulty.registers if r.key in keys]
        self.inputs = {
            f"in_{name}": Signal(width, name=f"in_{name}")
            for name, (way, width) in golden.ports.items()
            if way == "input"
        }
        self.clock = ClockDomain("sync", reset_less=True)
        self.reset, self.fire = Signal(name="reset"), Signal(name="fire")
        self.place = Signal(range(self.bits), name="place")
        self.starts = {r.key: Signal(r.width, name=f"start_{r.number}") for r in self.free}
        self.bad, self.inductive = Signal(name="bad"), Signal(name="inductive")

    @property
    def bits(self) -> int:
        """Bits that can be struck."""
        return sum(register.width for register in self.struck)

    @property
    def ports(self) -> list[Signal]:
        """Signals of the top module."""
        inputs = [*self.inputs.values(), self.reset, self.fire, self.place, *self.starts.values()]
        return [self.clock.clk, *inputs, self.bad, self.inductive]

    def modules(self) -> dict[str, Any]:
        """The two copies in Yosys's JSON, by name."""
        return {
            "golden": instrument(self.golden, self.free, ()),
            "faulty": instrument(self.faulty, self.copies, self.struck),
        }

    def places(self) -> Iterator[tuple[Register, int, int]]:
        """Register, its lowest place and its width, for all that can be struck."""
        offset = 0
        for register in self.struck:
            yield register, offset, register.width
            offset += register.width

    def module(self) -> Module:
        """The top module."""
        m = Module()
        m.domains += self.clock
        first, fires = Signal(init=1, name="first"), Signal(name="fires")
        age, seen = Signal(AGE_BITS, name="age"), Signal(name="seen")
        struck = age.any()  # in an earlier cycle
        m.d.comb += fires.eq(self.fire & ~struck & (self.place < self.bits))
        m.d.sync += first.eq(0)
        with m.If((struck | fires) & ~age.all()):
            m.d.sync += age.eq(age + 1)
        mask = Signal(self.bits, name="mask")
        m.d.comb += mask.eq(fires << self.place)
        strikes = {f"i_formal_strike_{r.number}": mask[at : at + w] for r, at, w in self.places()}
        golden, held = self._copy(m, "golden", self.golden, self.free, first, {})
        faulty, states = self._copy(m, "faulty", self.faulty, self.copies, first, strikes)
        if self.claim.flag is not None:
            m.d.sync += seen.eq(seen | faulty[self.claim.flag].any())
        good = self._claim(golden, faulty, fires, seen)
        view = View(golden, {r.key: s for r, s in held}, states, struck | fires, age, seen)
        holds = Const(1) if self.invariant is None else self.invariant(view)
        m.d.comb += [self.bad.eq(~good), self.inductive.eq(good & holds)]
        return m

    def _copy(
        self,
        m: Module,
        name: str,
        circuit: Circuit,
        free: list[Register],
        first: Signal,
        strikes: dict[str, Value],
    ) -> tuple[dict[str, Signal], list[tuple[Register, Signal]]]:
        """Outputs by port, and registers with what they hold."""
        outputs = {
            port: Signal(width, name=f"{name}_{port}")
            for port, (way, width) in circuit.ports.items()
            if way == "output"
        }
        states = [(r, Signal(r.width, name=f"{name}_state_{r.number}")) for r in circuit.state]
        m.submodules[f"{name}_copy"] = Instance(
            name,
            i_clk=ClockSignal(),
            i_rst=self.reset,
            i_formal_first=first,
            **{f"i_{port[3:]}": signal for port, signal in self.inputs.items()},
            **{f"i_formal_start_{r.number}": self.starts[r.key] for r in free},
            **{f"o_{port}": signal for port, signal in outputs.items()},
            **{f"o_formal_state_{r.number}": signal for r, signal in states},
            **strikes,
        )
        return outputs, states

    def _claim(
        self, golden: dict[str, Signal], faulty: dict[str, Signal], fires: Signal, seen: Signal
    ) -> Value:
        claim = self.claim
        counts: Value = golden[claim.when] if claim.when else Const(1)
        differ = Cat(golden[port] != faulty[port] for port in claim.equal).any()
        if claim.flag is None:
            return ~(counts & differ)
        flag = faulty[claim.flag].any()
        raised = flag | seen if claim.latched else flag
        late = fires & ~flag if claim.at_once else Const(0)
        false = golden[claim.flag].any() if claim.quiet else Const(0)
        return ~((counts & ((differ & ~raised) | false)) | late)
