"""Bit-exact bench of one design, on cocotb and numpy alone; `make` or pytest runs it.

layout.json names the ports and streams, vectors.npz holds the beats of each stream as words uint8
[frames, beats, bytes], least significant byte first. The bench drives its own clock: it sets the
inputs while the clock is low, reads every stream once they have settled, then lets the clock rise.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.handle import HierarchyObject
from cocotb.triggers import Timer

HERE = Path(__file__).resolve().parent
HALF_PERIOD_NS = 5
TAKEN_SHARE = 0.7


def _beats(words: np.ndarray[Any, np.dtype[np.uint8]]) -> list[tuple[int, bool, bool]]:
    """(data, first, last) of every beat of the frames."""
    last = words.shape[1] - 1
    return [
        (int.from_bytes(beat.tobytes(), "little"), i == 0, i == last)
        for frame in words
        for i, beat in enumerate(frame)
    ]


class Design:
    """The design under test: its streams by name, and what has passed on each of them."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.layout = json.loads((HERE / "layout.json").read_text())
        with np.load(HERE / "vectors.npz", allow_pickle=False) as arrays:
            self.expected = {name: _beats(arrays[name]) for name in arrays.files}
        self.clock, self.reset = dut[self.layout["clock"]], dut[self.layout["reset"]]
        self.handles = {
            name: {key: dut[signal] for key, signal in signals.items()}
            for name, signals in self.layout["streams"].items()
        }
        self.seen: dict[str, int] = dict.fromkeys(self.handles, 0)
        self.ends: list[int] = []
        self.cycle = 0

    def drive(self, beat: int | None, ready: bool) -> None:
        """Offer input beat number `beat`, or none, and set the output's ready."""
        source = self.handles["input"]
        source["valid"].value = int(beat is not None)
        self.handles["output"]["ready"].value = int(ready)
        if beat is not None:
            data, first, last = self.expected["input"][beat]
            source["data"].value, source["first"].value = data, int(first)
            source["last"].value = int(last)

    async def step(self, check: bool = True) -> None:
        """One cycle: settle, check the beats that are about to move, let the clock rise."""
        self.clock.value = 0
        await Timer(HALF_PERIOD_NS, "ns")
        for name, handles in self.handles.items() if check else ():
            if int(handles["valid"].value) and int(handles["ready"].value):
                self._check(name, handles)
        self.clock.value = 1
        await Timer(HALF_PERIOD_NS, "ns")
        self.cycle += 1

    def _check(self, name: str, handles: dict[str, Any]) -> None:
        number = self.seen[name]
        self.seen[name] += 1
        where = f"{name}: beat {number}"
        assert number < len(self.expected[name]), f"{where}: there should be no more"
        data, first, last = self.expected[name][number]
        found = int(handles["data"].value)
        assert found == data, f"{where}: got {found:#x}, not {data:#x}"
        assert int(handles["first"].value) == first, f"{where}: first is wrong"
        assert int(handles["last"].value) == last, f"{where}: last is wrong"
        assert "err" not in handles or not int(handles["err"].value), f"{where}: err is raised"
        if name == "output" and last:
            self.ends.append(self.cycle)

    async def start(self) -> None:
        """Reset for three cycles."""
        self.reset.value = 1
        self.drive(None, False)
        for _ in range(3):
            await self.step(check=False)
        self.reset.value = 0

    async def play(self, share: float) -> int:
        """Play all frames, offering and taking with this probability; returns the first cycle."""
        rng = np.random.default_rng(1)
        offered, start, total = False, -1, len(self.expected["input"])
        limit = self.cycle + 20 * self.layout["latency_cycles"] * (2 + total)
        while any(self.seen[name] < len(beats) for name, beats in self.expected.items()):
            number = self.seen["input"]
            offered = number < total and (offered or rng.random() < share)
            self.drive(number if offered else None, bool(rng.random() < share))
            await self.step()
            if self.seen["input"] > number:
                offered, start = False, self.cycle - 1 if start < 0 else start
            assert self.cycle < limit, f"no result: {self.seen} of the beats have passed"
        return start


@cocotb.test()
async def bit_exact(dut: HierarchyObject) -> None:
    """Every beat of every stream is right although the input idles and the output stalls."""
    design = Design(dut)
    await design.start()
    await design.play(TAKEN_SHARE)


@cocotb.test()
async def timing(dut: HierarchyObject) -> None:
    """Without stalls: the cycles of the first three frames' last beats, then one interval each.

    With fewer than three frames in vectors.npz there is no interval to measure.
    """
    design = Design(dut)
    await design.start()
    start = await design.play(1.0)
    ends = [end - start for end in design.ends]
    predicted = design.layout["last_beat_cycles"][: design.layout["frames"]]
    assert ends[:3] == predicted, f"last beats at {ends[:3]}, not {predicted}"
    spacings = set(np.diff(ends[1:]).tolist())
    assert spacings <= set(design.layout["spacings"]), f"intervals {spacings}"
    assert spacings or len(ends) < 3, "no interval was measured"


def test_make() -> None:
    """Run both benches from pytest."""
    subprocess.run(["make", "-C", str(HERE)], check=True)
