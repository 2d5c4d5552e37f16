"""Injected upsets: each flip is read back, and a control flip must change what the output shows.

Traps that this bench guards against (found with cocotb 2.1 on Verilator 5.48): `Force` does
nothing, silently, and so does writing a register that the model does not make visible. So a flip is
an `Immediate` deposit after the falling edge, read back after the logic has settled.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.handle import HierarchyObject, Immediate
from cocotb.triggers import Timer

from ..checker import Outcome
from ..manifest import Register
from ..streams import PERIOD_NS
from .session import Session

CONTROL_ROLES = ("fifo", "requant", "accumulator", "product", "activation", "window")


@dataclass(frozen=True)
class Flip:
    """Flip bit `bit` of these registers after rising edge number `cycle`."""

    registers: tuple[Register, ...]
    bit: int
    cycle: int

    def __str__(self) -> str:
        names = " and ".join(register.name for register in self.registers)
        return f"{names} bit {self.bit} at cycle {self.cycle}"


def _handle(dut: HierarchyObject, register: Register) -> Any:
    """The register's handle; LookupError naming it if the model has none."""
    handle: Any = dut
    try:
        for part in ("dut", *register.name.split(".")):
            handle = handle[f"\\{part} " if "$" in part else part]  # an escaped identifier
    except (KeyError, AttributeError, TypeError):
        raise LookupError(f"register {register.name} is not in the model") from None
    if len(handle) != register.width:
        raise LookupError(f"register {register.name}: {len(handle)} bits, not {register.width}")
    return handle


class _Injector:
    """Plays the budget's frames with a flip in flight and compares with the run without."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.frames = slice(0, session.budget.fault_frames)
        self.golden: tuple[int, ...] = ()
        self.lost: list[str] = []

    async def learn(self) -> Outcome:
        """The fault-free run."""
        await self.session.link.reset()
        outcome = await self.session.link.play(self.frames)
        self.golden = tuple(outcome.output.ends)
        return outcome

    async def changes(self, flip: Flip) -> bool:
        """True if the flip changed a word, a marker or the timing of the output, or hung it."""
        handles = [_handle(self.session.link.dut, register) for register in flip.registers]
        await self.session.link.reset()
        task = cocotb.start_soon(_flip_at(handles, flip))
        outcome = await self.session.link.play_output(self.frames)
        if not task.done() or not task.result():
            self.lost.append(str(flip))
        output = outcome.output
        return bool(output.wrong or outcome.hang or tuple(output.ends) != self.golden)


async def _flip_at(handles: list[Any], flip: Flip) -> bool:
    """Wait for the flip's cycle, past the falling edge; then as `_flip`."""
    await Timer(flip.cycle * PERIOD_NS + 1, "ns")
    return await _flip(handles, flip.bit)


async def _flip(handles: list[Any], bit: int) -> bool:
    """Flip the bit in each register; False unless all of them show it once settled."""
    wanted = [int(handle.value) ^ 1 << bit for handle in handles]
    for handle, value in zip(handles, wanted, strict=True):
        handle.set(Immediate(value))
    await Timer(1, "ns")
    return [int(handle.value) for handle in handles] == wanted


@cocotb.test()
async def faults(dut: HierarchyObject) -> None:
    """Flips in a sample of registers of every role; one of them at least, the control, must show.

    It is of a data register where one shows; where results hardly depend on the data (an arg-max
    over few images) of any register that is no checker's.
    """
    session = Session(dut, "faults")
    sampled = [session.manifest.registers[i] for i in session.options["registers"]]
    groups = [
        tuple(session.manifest.registers[i] for i in pair) for pair in session.options["pairs"]
    ]
    injector = _Injector(session)
    golden = await injector.learn()
    if not golden.passed:
        session.finish(False, **golden.report())
    flips, shown = Counter[str](), Counter[str]()
    control = other = ""
    for flip in _draw(
        session, [(register,) for register in sampled for _ in range(session.budget.flips)]
    ):
        role = flip.registers[0].role
        flips[role] += 1
        if await injector.changes(flip):
            shown[role] += 1
            control = control or (str(flip) if role in CONTROL_ROLES else "")
            other = other or (str(flip) if role != "checker" else "")
    control = control or await _control(session, injector, sampled, groups) or other
    lines = [f"the flip of {name} did not stay" for name in injector.lost[:10]]
    if not control:
        lines.append("control did not fail: no flip but of checkers changed the output")
    by_role = {role: {"flips": flips[role], "shown": shown[role]} for role in sorted(flips)}
    detail: dict[str, Any] = {"frames": session.budget.fault_frames, "registers": len(sampled)}
    detail |= {"flips": flips.total(), "by_role": by_role, "control": control, "report": lines}
    session.finish(not lines, **detail)


def _draw(session: Session, groups: list[tuple[Register, ...]]) -> list[Flip]:
    """One flip of each group at a random bit and a cycle in which a frame is in flight."""
    last = session.manifest.last_beat_cycles[session.budget.fault_frames - 1]
    rng = session.rng
    return [
        Flip(group, int(rng.integers(group[0].width)), int(rng.integers(1, last + 1)))
        for group in groups
    ]


async def _control(
    session: Session,
    injector: _Injector,
    sampled: list[Register],
    pairs: list[tuple[Register, ...]],
) -> str:
    """The first flip that shows: two replicas of one register, or one data register; else ""."""
    single = [(register,) for register in sampled if register.role in CONTROL_ROLES]
    groups = pairs + single
    for _ in range(session.budget.control_tries if groups else 0):
        group = groups[int(session.rng.integers(len(groups)))]
        (flip,) = _draw(session, [group])
        if await injector.changes(flip):
            return str(flip)
    return ""
