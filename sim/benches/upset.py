"""Faults in the clocked design: one fault-free run that forks at each experiment.

The simulation plays the frames once. At each cycle in which experiments start it compares every
register with the values it was given, then a child process flips or forces the bits, reads them
back, plays on until the watched frames are delivered or late, and appends one line to
results.jsonl. The parent goes on without the fault, so that every experiment starts from the same
golden state, memories included.
"""

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject, Immediate
from cocotb.triggers import First, Timer, ValueChange
from cocotb.utils import get_sim_time

PERIOD_PS = 10_000
SETTLE_PS = 1_000


class Registers:
    """The variables that hold the flip-flops, found by their paths below the design."""

    def __init__(self, dut: HierarchyObject, paths: list[list[str]], masks: list[str]) -> None:
        self.handles = [_find(dut["dut"], path) for path in paths]
        self.paths, self.masks = paths, [int(mask, 16) for mask in masks]

    def read(self) -> list[int]:
        """The flip-flop bits of every variable."""
        pairs = zip(self.handles, self.masks, strict=True)
        return [int(handle.value) & mask for handle, mask in pairs]

    def differing(self, expected: list[str]) -> list[str]:
        """Names of the variables whose bits are not as expected."""
        rows = zip(self.paths, self.read(), expected, strict=True)
        return [".".join(path) for path, value, wanted in rows if value != int(wanted, 16)]

    async def set(self, place: list[int], value: int | None) -> None:
        """Set the bit [variable, position], or invert it if `value` is None.

        Raises AssertionError unless exactly this bit changed.
        """
        variable, position = place
        handle, wanted = self.handles[variable], self.read()
        if value is not None and wanted[variable] >> position & 1 == value:
            return
        wanted[variable] ^= 1 << position
        await _write(handle, int(handle.value) ^ 1 << position)
        assert self.read() == wanted, "the fault did not land"


class Memories:
    """The memories, found by their paths below the design; and what struck words of ROMs held."""

    def __init__(self, dut: HierarchyObject, paths: list[list[str]], written: list[bool]) -> None:
        self.dut, self.paths, self.written = dut["dut"], paths, written
        self.before: dict[tuple[int, int], int] = {}

    async def set(self, place: list[int], value: int | None) -> None:
        """Set the bit [memory, address, position], or invert it if `value` is None.

        Raises AssertionError unless it reads back.
        """
        memory, address, position = place
        handle = _find(self.dut, self.paths[memory])[address]
        word = int(handle.value)
        if value is not None and word >> position & 1 == value:
            return
        if not self.written[memory]:
            self.before.setdefault((memory, address), word)
        await _write(handle, word ^ 1 << position)
        assert int(handle.value) == word ^ 1 << position, "the fault did not land"

    def restored(self) -> bool:
        """Whether all struck words of ROMs hold what they held before."""
        return all(
            int(_find(self.dut, self.paths[memory])[address].value) == word
            for (memory, address), word in self.before.items()
        )


async def _write(handle: Any, value: int) -> None:
    handle.set(Immediate(value))
    await Timer(1, "step")


def _find(handle: Any, path: list[str]) -> Any:
    for part in path:
        inner = _child(handle, part)
        if inner is None:
            inner = _child(handle, f"\\{part} ")  # an escaped identifier
        if inner is None:
            raise AssertionError(f"register {'.'.join(path)} cannot be reached")
        handle = inner
    return handle


def _child(handle: Any, name: str) -> Any:
    try:
        return handle[name]
    except (KeyError, AttributeError):
        return None


class Run:
    """The state of this process's simulation; `start_ps` is the falling edge before cycle 0."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.folder = Path(os.environ["TERCET_BENCH"])
        self.options: dict[str, Any] = json.loads((self.folder / "options.json").read_text())
        self.dut = dut
        self.registers = Registers(dut, self.options["paths"], self.options["masks"])
        self.memories = Memories(dut, self.options["memories"], self.options["written"])
        self.events: list[dict[str, Any]] = []
        self.failure: BaseException | None = None
        self.start_ps = 0
        self.cores: int = self.options["workers"]

    async def until(self, cycle: int) -> None:
        """Shortly after the falling edge in `cycle`, when the state of that cycle is settled."""
        left = self.start_ps + cycle * PERIOD_PS + SETTLE_PS - int(get_sim_time("ps"))
        if left > 0:
            await Timer(left, "ps")

    async def golden(self) -> None:
        """Play fault-free; a child for each experiment, one a core at a time."""
        children = 0
        for stop in self.options["stops"]:
            await self.until(stop["cycle"])
            wrong = self.registers.differing(stop["state"])
            assert not wrong, f"cycle {stop['cycle']}: not the golden state: {wrong[:3]}"
            for experiment in stop["experiments"]:
                if children == self.cores:
                    _reap()
                    children -= 1
                if os.fork() == 0:
                    await self._child(experiment)
                children += 1
        for _ in range(children):
            _reap()

    async def _child(self, experiment: dict[str, Any]) -> None:
        """One experiment; never returns."""
        try:
            line = {"id": experiment["id"]} | await self.upset(experiment)
        except BaseException as error:
            line = {"id": experiment["id"], "failed": str(error).splitlines()[0]}
        data = (json.dumps(line) + "\n").encode()
        file = os.open(self.folder / "results.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, data)
        os._exit(0)

    async def upset(self, experiment: dict[str, Any]) -> dict[str, Any]:
        """Strike, then collect [number of beats, beats as one number] of each watched frame."""
        self.events = sorted(experiment["events"], key=lambda event: int(event["start"]))
        await self._strike(self._next())
        cocotb.start_soon(self._strike_on())
        result: dict[str, Any] = {"first": experiment["first"], "frames": []}
        assert int(self.dut["frames"].value) == experiment["first"], "not the golden frame"
        for deadline in experiment["deadlines"]:
            change = ValueChange(self.dut["frames"])
            left = self.start_ps + (deadline + 1) * PERIOD_PS - int(get_sim_time("ps"))
            if left <= 0 or await First(change, Timer(left, "ps")) is not change:
                return result | {"hang": True, "golden": False} | self._counted()
            beats, words = int(self.dut["beats"].value), hex(int(self.dut["words"].value))
            result["frames"].append((beats, words))
        golden = not self.registers.differing(experiment["state"])
        golden = golden and not self.events and self.memories.restored()
        return result | {"hang": False, "golden": golden} | self._counted()

    def _next(self) -> int:
        """The cycle of the next strike: of an event to come, or of a stuck-at that holds."""
        return min(int(event["start"]) for event in self.events)

    async def _strike_on(self) -> None:
        """All further strikes."""
        try:
            while self.events:
                await self._strike(self._next())
        except BaseException as error:
            self.failure = error

    async def _strike(self, cycle: int) -> None:
        """Strike with the events of one cycle, flips first; keep those that are still to strike."""
        await self.until(cycle)
        now = [event for event in self.events if event["start"] == cycle]
        for event in sorted(now, key=lambda event: event["value"] is not None):
            target = self.registers if len(event["place"]) == 2 else self.memories
            await target.set(event["place"], event["value"])
        self.events = [
            {**event, "start": max(int(event["start"]), cycle + 1)}
            for event in self.events
            if event["stop"] > cycle + 1
        ]

    def _counted(self) -> dict[str, int]:
        if self.failure is not None:
            raise self.failure
        elapsed = int(get_sim_time("ps")) - self.start_ps
        cycle = (elapsed + PERIOD_PS // 2) // PERIOD_PS  # it starts at a rising edge
        seen = int(self.dut["detected"].value)
        detected = -1 if seen == 2**32 - 1 else seen
        return {"events": int(self.dut["events"].value), "cycle": cycle, "detected": detected}


def _reap() -> None:
    _, status = os.wait()
    assert status == 0, f"an experiment ended with status {status}"


async def started(dut: HierarchyObject) -> Run:
    """The simulation after reset, at the falling edge before cycle 0."""
    run = Run(dut)
    Clock(dut["clk"], PERIOD_PS, "ps").start(start_high=False)
    dut["rst"].value = 1
    await Timer(run.options["reset_cycles"] * PERIOD_PS, "ps")
    dut["rst"].value = 0
    run.start_ps = int(get_sim_time("ps"))
    return run


@cocotb.test
async def upset(dut: HierarchyObject) -> None:
    """Run all experiments of options.json."""
    await (await started(dut)).golden()
