"""The clocked harness of `verify`: the probed design played from C++, every beat compared there.

No Python runs per cycle, so that designs with an interval of 100,000 cycles can be checked on many
frames. It shares the probe (probe.py) and the compiled design with the cocotb benches, and reports
as they do.
"""

import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

from ..quant.errors import ClaimError
from ..quant.names import printable
from . import budget, verilate
from .checker import Checker, Outcome
from .manifest import Manifest, Stream, Words

__all__ = ["Stalls", "play", "program"]


@dataclass(frozen=True)
class Stalls:
    """When the input idles and the output stalls.

    A beat is offered (taken) in a share of the cycles that is drawn every 256 cycles between
    `offered` (`taken`) and 1; about once in `pause_every` cycles either side pauses for up to
    `pause_most` cycles; the output stalls for `stall_cycles` from cycle `stall_from`.
    """

    offered: float = 1.0
    taken: float = 1.0
    pause_every: int = 0
    pause_most: int = 1
    stall_from: int = 0
    stall_cycles: int = 0


def program(found: Manifest, recipe: verilate.Recipe) -> Path:
    """The harness around the design of `recipe` (runner.recipe), which is compiled if need be."""
    streams = [found.output, *(tap.stream for tap in found.taps)]
    checks = (f"CHECK({k}, {s.beats}, {s.word_bits})" for k, s in enumerate(streams, 1))
    sizes = f"#define INPUT_BEATS {found.input.beats}\n#define INPUT_BITS {found.input.word_bits}\n"
    defines = f"{sizes}#define STREAMS {' '.join(checks)}\n"
    main = (files(__package__) / "engines" / "checked.cpp").read_text(encoding="utf-8")
    return verilate.executable(replace(recipe, main=defines + main, link=()))


def play(
    model: Path,
    found: Manifest,
    words: list[Words],
    folder: Path,
    frames: slice,
    stalls: Stalls,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Play `frames` of `folder`/stream_<k>.bin, whose words [n, beats, word_bytes] are `words`.

    `progress` is told the number of output frames now and then. Raises ClaimError if the model
    dies.
    """
    first, last, _ = frames.indices(len(words[0]))
    patience = budget.patience(found) + stalls.pause_most + stalls.stall_cycles
    options = [first, last - first, seed, stalls.offered, stalls.taken, stalls.pause_every]
    options += [stalls.pause_most, stalls.stall_from, stalls.stall_cycles, patience]
    command = [str(model), str(folder), *map(str, [*options, budget.drain(found)])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            seen = _Seen.read(process.stdout or (), progress)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        reason = f"the model ended with status {process.returncode}"
        raise ClaimError(f"{found.directory}: {printable(reason)}")
    return seen.outcome(found, [stream[first:last] for stream in words[1:]])


@dataclass
class _Seen:
    """What the harness printed."""

    cycles: int = 0
    hang: bool = False
    unstable: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)
    wrong: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    @classmethod
    def read(cls, lines: Iterable[str], progress: Callable[[int], None] | None) -> "_Seen":
        seen = cls()
        for line in lines:
            key, *values = line.split()
            if key == "wrong":
                beat, word = int(values[1]), int(values[2], 16)
                seen.wrong.setdefault(int(values[0]), []).append((beat, word))
                continue
            value = int(values[0])
            match key:
                case "frame":
                    _ = progress and progress(value)
                case "stream":
                    seen.counts.append((int(values[1]), int(values[2])))
                case "cycles":
                    seen.cycles = value
                case "hang":
                    seen.hang = bool(value)
                case _:
                    {"start": seen.starts, "end": seen.ends, "unstable": seen.unstable}[key].append(
                        value
                    )
        return seen

    def outcome(self, found: Manifest, words: list[Words]) -> Outcome:
        names = ["output", *(tap.layer for tap in found.taps)]
        streams = [found.output, *(tap.stream for tap in found.taps)]
        checkers = [
            self._checker(k, *parts)
            for k, parts in enumerate(zip(names, streams, words, strict=True), 1)
        ]
        checkers[0].ends = self.ends
        unstable = tuple(names[k - 1] for k in self.unstable)
        return Outcome(self.cycles, self.hang, unstable, tuple(self.starts), tuple(checkers))

    def _checker(self, k: int, name: str, layout: Stream, words: Words) -> Checker:
        """A checker that has explained the wrong beats; it counts beats, not elements."""
        checker = Checker(name, layout, words)
        for beat, word in self.wrong.get(k, ()):
            checker.explain(beat, word)
        checker.beats, checker.wrong = self.counts[k - 1]
        return checker
