"""The processes of the native engines: what they are sent, what they answer.

A process runs its design once without a fault and then takes one job after the other. The files
are little endian; native_engine.h and its environments are the other side.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from ...quant.errors import ClaimError
from ...quant.ir import IntArray
from ...quant.names import printable
from .. import cache
from ..faults import Faults

__all__ = ["Answer", "Part", "Setup", "golden", "run", "states"]

STATE_BUDGET_BYTES = 256 << 20
ACCESS_BUDGET_BYTES = 256 << 20
CHUNK = 2000
NONE = np.zeros(0, np.int64)
NO_FAULTS = Faults.single(NONE, NONE)

T = TypeVar("T")
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Answer:
    """The arrays of a result file, one after the other."""

    def __init__(self, path: Path) -> None:
        self._data, self._at = path.read_bytes(), 0

    def number(self) -> int:
        return int(self._take(1, "<u8")[0])

    def numbers(self, count: int) -> IntArray:
        return np.asarray(self._take(count, "<u4").astype(np.int64))

    def firsts(self, count: int) -> IntArray:
        """Cycles, -1 for one that never came."""
        return np.asarray(self._take(count, "<u4").astype(np.int32), np.int64)

    def bytes(self, *shape: int) -> Bytes:
        return np.asarray(self._take(int(np.prod(shape)), "u1").reshape(shape))

    def _take(self, count: int, kind: str) -> np.ndarray[Any, Any]:
        array = np.frombuffer(self._data, kind, count, self._at)
        self._at += array.nbytes
        return array


@dataclass(frozen=True)
class Setup:
    """A compiled program and what its environment reads: numbers, then arrays of bytes."""

    program: Path
    numbers: list[int]
    arrays: list[Bytes]

    def write(self, path: Path) -> None:
        with path.open("wb") as file:
            budgets = [STATE_BUDGET_BYTES, ACCESS_BUDGET_BYTES]
            file.write(np.array(budgets + self.numbers, "<u8").tobytes())
            for array in self.arrays:
                file.write(np.ascontiguousarray(array, np.uint8).tobytes())


@dataclass(frozen=True)
class Part(Generic[T]):
    """The result of some experiments: `ends` [n] of `End`, `end_cycle` [n], `states` the bytes of
    the golden states that were asked for, and what the environment adds."""

    ends: Bytes
    end_cycle: IntArray
    states: Bytes
    more: T


class _Killed(ClaimError):
    """The process was ended by a signal."""


class _Process:
    """One running program in its folder."""

    def __init__(self, setup: Setup, work: Path) -> None:
        self.work = work
        setup.write(work / "setup")
        with (work / "errors").open("wb") as errors:
            self.process = subprocess.Popen(
                [setup.program, "setup", "golden"],
                cwd=work,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()

    def wait(self) -> None:
        """Until the program answers; ClaimError with its last words if it ends instead."""
        assert self.process.stdout is not None
        if self.process.stdout.readline() == b"\n":
            return
        status = self.process.wait()
        if status < 0:
            raise _Killed(f"native engine: a process was ended by signal {-status}")
        lines = (self.work / "errors").read_text(errors="replace").strip().splitlines()
        raise ClaimError(f"native engine: {printable((lines or [f'exit status {status}'])[-1])}")

    def run(
        self, faults: Faults, limits: IntArray, states: IntArray, read: Callable[[Answer, int], T]
    ) -> Part[T]:
        """One job; `limits` [n] is the environment's bound of each experiment."""
        sizes = np.array([len(faults), len(faults.target), len(states)], "<u8")
        columns = (faults.first, faults.target, faults.mode, faults.start, faults.stop)
        with (self.work / "job").open("wb") as file:
            file.write(sizes.tobytes())
            for column in (*columns, limits, states):
                file.write(column.astype("<u4").tobytes())
        self._call()
        answer = Answer(self.work / "result")
        kept, _, _ = (answer.number() for _ in range(3))
        ends, end_cycle = answer.bytes(len(faults)), answer.numbers(len(faults))
        return Part(ends, end_cycle, answer.bytes(kept), read(answer, len(faults)))

    def _call(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: wait says why
            self.process.stdin.write(b"job result\n")
            self.process.stdin.flush()
        self.wait()


@contextlib.contextmanager
def _running(setup: Setup) -> Iterator[_Process]:
    with cache.scratch() as work:
        process = _Process(setup, work)
        try:
            process.wait()
            yield process
        finally:
            process.stop()


def golden(setup: Setup, read: Callable[[Answer, int], T]) -> T:
    """The fault-free run; `read` is given the answer and the number of cycles."""
    with _running(setup) as process:
        answer = Answer(process.work / "golden")
        return read(answer, answer.number())


def states(setup: Setup, cycles: IntArray) -> bytes:
    """Golden states at the start of each cycle, in the order of registers."""
    with _running(setup) as process:
        return process.run(NO_FAULTS, NONE, cycles, lambda *_: None).states.tobytes()


def run(
    setup: Setup,
    faults: Faults,
    limits: IntArray,
    read: Callable[[Answer, int], T],
    *,
    workers: int | None,
    progress: Callable[[int], None] | None,
) -> tuple[list[Part[T]], IntArray]:
    """The experiments in parts, and the order in which the parts hold them.

    `workers` processes at a time (default: one a core); a part whose process is killed is done
    again in a new one, once. Parts do not depend on `workers`: they follow the order of the first
    events.
    """
    order = np.argsort(faults.cycle, kind="stable")
    starts = range(0, len(faults), CHUNK)
    parts: list[Part[T] | None] = [None] * len(starts)
    waiting, lock = iter(enumerate(starts)), threading.Lock()

    def one(process: _Process, number: int, start: int) -> None:
        picks = order[start : start + CHUNK]
        parts[number] = process.run(faults.take(picks), limits[picks], NONE, read)
        if progress is not None:
            progress(len(picks))

    def work(_: int) -> None:
        with _running(setup) as process:
            for number, start in _shared(waiting, lock):
                try:
                    one(process, number, start)
                except _Killed:
                    with _running(setup) as fresh:
                        one(fresh, number, start)

    count = min(workers or len(os.sched_getaffinity(0)), len(starts))
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))
    return [part for part in parts if part is not None], order


def _shared(items: Iterator[T], lock: threading.Lock) -> Iterator[T]:
    """The items that no other thread has taken."""
    while True:
        with lock:
            item = next(items, None)
        if item is None:
            return
        yield item
