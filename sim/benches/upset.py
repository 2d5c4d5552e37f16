"""Register upsets in the clocked design: one fault-free run that forks at each fault.

The simulation plays the frames once. At each cycle with faults it compares every register with the
values it was given, then a child process flips the bits, reads them back, plays on until the
watched frames are delivered or late, and appends one line to results.jsonl. The parent goes on
without the fault, so that every experiment starts from the same golden state, memories included.
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

    async def flip(self, flips: list[tuple[int, int]]) -> None:
        """Invert bits (variable, position); AssertionError unless exactly these changed."""
        wanted = self.read()
        for number, position in flips:
            handle = self.handles[number]
            wanted[number] ^= 1 << position
            handle.set(Immediate(int(handle.value) ^ 1 << position))
            await Timer(1, "step")
        assert self.read() == wanted, "the flip did not land"


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
            line = {"id": experiment["id"]} | await self._upset(experiment)
        except BaseException as error:
            line = {"id": experiment["id"], "failed": str(error).splitlines()[0]}
        data = (json.dumps(line) + "\n").encode()
        file = os.open(self.folder / "results.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, data)
        os._exit(0)

    async def _upset(self, experiment: dict[str, Any]) -> dict[str, Any]:
        """Flip, then collect [number of beats, beats as one number] of each watched frame."""
        await self.registers.flip(experiment["flips"])
        result: dict[str, Any] = {"first": experiment["first"], "frames": []}
        assert int(self.dut["frames"].value) == experiment["first"], "not the golden frame"
        for deadline in experiment["deadlines"]:
            change = ValueChange(self.dut["frames"])
            left = self.start_ps + (deadline + 1) * PERIOD_PS - int(get_sim_time("ps"))
            if left <= 0 or await First(change, Timer(left, "ps")) is not change:
                return result | {"hang": True, "golden": False} | self._events()
            beats, words = int(self.dut["beats"].value), hex(int(self.dut["words"].value))
            result["frames"].append((beats, words))
        golden = not self.registers.differing(experiment["state"])
        return result | {"hang": False, "golden": golden} | self._events()

    def _events(self) -> dict[str, int]:
        elapsed = int(get_sim_time("ps")) - self.start_ps
        cycle = (elapsed + PERIOD_PS // 2) // PERIOD_PS  # it starts at a rising edge
        return {"events": int(self.dut["events"].value), "cycle": cycle}


def _reap() -> None:
    _, status = os.wait()
    assert status == 0, f"an experiment ended with status {status}"


@cocotb.test
async def upset(dut: HierarchyObject) -> None:
    """Run all experiments of options.json."""
    run = Run(dut)
    Clock(dut["clk"], PERIOD_PS, "ps").start(start_high=False)
    dut["rst"].value = 1
    await Timer(run.options["reset_cycles"] * PERIOD_PS, "ps")
    dut["rst"].value = 0
    run.start_ps = int(get_sim_time("ps"))
    await run.golden()
