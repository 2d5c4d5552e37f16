"""Counterexamples in Amaranth's simulator: no Yosys, no miter, the components themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import ClockDomain, Module, Value
from amaranth.sim import Simulator

from .circuit import numbered
from .engines import Counterexample
from .miter import Claim, Miter

__all__ = ["wrong_cycles"]

Outputs = list[dict[str, int]]


def wrong_cycles(
    miter: Miter,
    found: Counterexample,
    golden: Callable[[], Any],
    faulty: Callable[[], Any],
) -> list[int]:
    """Cycles in which outputs of the struck component are wrong and its flag does not say so."""
    upset = next(
        (
            (cycle, values["place"])
            for cycle, values in enumerate(found.cycles)
            if values["fire"] and values["place"] < miter.bits
        ),
        None,
    )
    right = _simulate(golden(), miter, found, {}, None)
    starts = {copy.number: miter.starts[copy.key].name for copy in miter.copies}
    flipped = _simulate(faulty(), miter, found, starts, upset)
    return _compare(miter.claim, right, flipped)


def _compare(claim: Claim, golden: Outputs, faulty: Outputs) -> list[int]:
    wrong, flagged = [], False
    for cycle, (right, found) in enumerate(zip(golden, faulty, strict=True)):
        raised = bool(claim.flag and found[claim.flag])
        flagged = raised or (flagged and claim.latched)
        counts = claim.when is None or right[claim.when]
        if counts and not flagged and any(right[p] != found[p] for p in claim.equal):
            wrong.append(cycle)
    return wrong


def _port(component: Any, name: str) -> Value:
    """`i__payload` is the member `payload` of the member `i`."""
    found = component
    for part in name.split("__"):
        found = getattr(found, part)
    return Value.cast(found)


def _simulate(
    component: Any,
    miter: Miter,
    found: Counterexample,
    starts: dict[int, str],
    upset: tuple[int, int] | None,
) -> Outputs:
    """Outputs in each cycle; `upset` is its cycle and the place of its bit."""
    starts = starts or {r.number: miter.starts[r.key].name for r in miter.free}
    top, domain = Module(), ClockDomain("sync")
    top.domains += domain
    top.submodules.unit = component
    with numbered() as registers:
        sim = Simulator(top)
    sim.add_clock(1e-8)
    ports = miter.golden.ports
    outputs: Outputs = []

    async def testbench(ctx: Any) -> None:
        for number, name in starts.items():
            ctx.set(registers[number].as_unsigned(), found.cycles[0][name])
        for cycle, values in enumerate(found.cycles):
            ctx.set(domain.rst, values["reset"])
            for name, (way, _) in ports.items():
                if way == "input":
                    ctx.set(_port(component, name).as_unsigned(), values[f"in_{name}"])
            if upset is not None and upset[0] == cycle:
                bits, bit = _struck(miter, registers, upset[1])
                before = ctx.get(bits)
                ctx.set(bits, before ^ 1 << bit)
                assert ctx.get(bits) != before, "the flip did not land"
            outputs.append(
                {
                    name: ctx.get(_port(component, name).as_unsigned())
                    for name, (way, _) in ports.items()
                    if way == "output"
                }
            )
            await ctx.tick()

    sim.add_testbench(testbench)
    sim.run()
    return outputs


def _struck(miter: Miter, registers: list[Any], place: int) -> tuple[Value, int]:
    """The register's bits, and which of them is at `place`."""
    for register, low, width in miter.places():
        if low <= place < low + width:
            made = registers[register.number]
            assert len(made) == width
            return made.as_unsigned(), place - low
    raise AssertionError(f"nothing is at place {place}")
