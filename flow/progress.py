"""Progress of long commands: one line on the terminal, nothing where output is not a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """What is being done, on one line of `stream` that the next report overwrites.

    Silent if `enabled` is false or the stream is no terminal, so logs and pipes stay clean. Use it
    as a context manager: leaving it clears the line.
    """

    def __init__(self, enabled: bool = True, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.enabled = enabled and self.stream.isatty()
        self._width = 0
        self._task, self._began, self._before = "", 0.0, 0

    def __call__(self, what: str, done: int | None = None, total: int | None = None) -> None:
        """Show `what`, with "done of total", rate and time left where they are known."""
        if not self.enabled:
            return
        text = what
        if done is not None:
            text += f" {done}" if total is None else f" {done} of {total}"
            text += self._pace(what, done, total)
        self._write(text)

    def _pace(self, what: str, done: int, total: int | None) -> str:
        """Rate and time left, once a second of the same task has passed."""
        now = time.monotonic()
        if what != self._task or done < self._before:
            self._task, self._began, self._before = what, now, done
        elapsed, gone = now - self._began, done - self._before
        if elapsed < 1 or not gone:
            return ""
        rate = gone / elapsed
        text = f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.2g}/s"
        return text if total is None else f"{text}, {_time((total - done) / rate)} left"

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.enabled and self._width:
            self._write("")

    def _write(self, text: str) -> None:
        self.stream.write("\r" + text.ljust(self._width) + ("\r" if not text else ""))
        self.stream.flush()
        self._width = len(text)


def _time(seconds: float) -> str:
    """A length of time in its largest two units."""
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{int(seconds)} s"
