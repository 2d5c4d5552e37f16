"""Who evaluates: this process, or processes side by side; the results are the same.

Candidates of one network go to one process, so that the network is trained once. What an evaluation
raises becomes the reason of its failure; a process that dies ends the search.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType

from ...quant.errors import ClaimError, InputError
from .candidate import Candidate

__all__ = ["Crew", "Evaluate", "Result", "busy_seconds"]

Evaluate = Callable[[Candidate], Mapping[str, float]]
Span = tuple[float, float]
REASON = 300
"""Characters of a reason at most."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Each worker is to use one thread: those of several on the same cores only wait."""


@dataclass(frozen=True)
class Result:
    """What an evaluation gave, or why it gave nothing; `span`: when, in monotonic seconds."""

    objectives: dict[str, float] | None
    failure: str | None
    span: Span


class Crew:
    """Evaluates candidates; `workers` processes, 0: in this process. A context manager."""

    def __init__(self, evaluate: Evaluate, workers: int) -> None:
        if workers < 0:
            raise InputError(f"workers must be 0 or more, not {workers}")
        self._evaluate = evaluate
        self._pool = None
        self._threads = {name: os.environ.get(name) for name in _THREADS}
        if workers:
            os.environ |= dict.fromkeys(_THREADS, "1")  # workers load NumPy before `_begin`
            self._pool = ProcessPoolExecutor(
                workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(evaluate,),
            )

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=error is None, cancel_futures=True)
            for name, value in self._threads.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value

    def run(
        self, candidates: Sequence[Candidate], done: Callable[[int], None] | None = None
    ) -> list[Result]:
        """The results, in the order of the candidates; `done` is told how many there are.

        Raises ClaimError when a worker process dies.
        """
        results: dict[int, Result] = {}
        if self._pool is None:
            for index, candidate in enumerate(candidates):
                results[index] = _evaluated(self._evaluate, candidate)
                if done is not None:
                    done(len(results))
        else:
            self._spread(self._pool, candidates, results, done)
        return [results[index] for index in range(len(candidates))]

    def _spread(
        self,
        pool: ProcessPoolExecutor,
        candidates: Sequence[Candidate],
        results: dict[int, Result],
        done: Callable[[int], None] | None,
    ) -> None:
        running: dict[Future[list[Result]], list[int]] = {}
        try:
            for members in _groups(candidates):
                running[pool.submit(_task, [candidates[i] for i in members])] = members
            for task in as_completed(running):
                results.update(zip(running[task], task.result(), strict=True))
                if done is not None:
                    done(len(results))
        except BrokenProcessPool:
            raise ClaimError(
                f"a worker process died with {len(candidates) - len(results)} of "
                f"{len(candidates)} candidates of the generation to evaluate (out of memory, or "
                "killed); what was finished before is kept: --resume goes on, fewer --workers "
                "need less memory"
            ) from None


def _groups(candidates: Sequence[Candidate]) -> list[list[int]]:
    """Indices of candidates by network, the largest group first."""
    found: dict[str, list[int]] = {}
    for index, candidate in enumerate(candidates):
        found.setdefault(candidate.network.digest, []).append(index)
    return sorted(found.values(), key=len, reverse=True)


_worker: list[Evaluate] = []
"""The evaluation of this worker process."""


def _begin(evaluate: Evaluate) -> None:
    """Of a worker: one thread each, interrupts are the parent's, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=_follow_parent, daemon=True).start()
    _worker[:] = [evaluate]


def _follow_parent() -> None:
    """A parent that is killed cannot tell its workers, which would wait forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _task(candidates: Sequence[Candidate]) -> list[Result]:
    return [_evaluated(_worker[0], candidate) for candidate in candidates]


def _evaluated(evaluate: Evaluate, candidate: Candidate) -> Result:
    began = time.monotonic()
    objectives, failure = None, None
    try:
        objectives = {name: float(value) for name, value in evaluate(candidate).items()}
    except ModuleNotFoundError:
        raise  # no candidate's fault: nothing can be evaluated
    except (InputError, ClaimError) as error:
        failure = _line(str(error))
    except Exception as error:
        failure = _line(f"{type(error).__name__}: {error}")
    return Result(objectives, failure, (began, time.monotonic()))


def _line(text: str) -> str:
    """A reason on one line."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())[:REASON]


def busy_seconds(results: Sequence[Result]) -> float:
    """How long at least one candidate was being evaluated."""
    total, until = 0.0, float("-inf")
    for start, stop in sorted(result.span for result in results):
        total += max(0.0, stop - max(start, until))
        until = max(until, stop)
    return total
