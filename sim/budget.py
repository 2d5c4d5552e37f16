"""How much of each bench a design gets: by its cycles a frame, in constants that stand only here.

A small design runs on cocotb throughout. Where the frames asked for take more than
`CLOCKED_ABOVE_CYCLES`, the benches that need every frame go to the clocked harness (checked.py),
and cocotb keeps what it can do in a bounded number of cycles: it wakes Python every cycle.
"""

from dataclasses import asdict, dataclass

from .manifest import Manifest

__all__ = ["Budget", "budget", "drain", "long_stall", "patience", "stalled_frames"]

CLOCKED_ABOVE_CYCLES = 250_000
FAULT_CYCLES = 2_000_000
RESET_CYCLES = 500_000
FRAME_CYCLES = 500_000

LEAST_FRAMES = 6
LEAST_CLOCKED_FRAMES = 5
FLIPS, REGISTERS, CONTROL_TRIES = 2, 4, 200
LEAST_CONTROL_TRIES = 30
RESETS = 6
DRAIN_CYCLES = 10_000
LONG_STALL_CYCLES = 10_000


def patience(found: Manifest) -> int:
    """Cycles without any transfer after which a design hangs."""
    return 4 * found.latency_cycles + 1000


def drain(found: Manifest) -> int:
    """Cycles to wait for a beat too many after the last one."""
    return min(found.latency_cycles, DRAIN_CYCLES)


def long_stall(found: Manifest) -> tuple[int, int]:
    """First cycle and length of the long stall: in mid-frame, until the whole pipeline is full."""
    interval, latency = found.initiation_interval, found.latency_cycles
    return latency + interval // 2, max(LONG_STALL_CYCLES, latency + 3 * interval)


def stalled_frames(found: Manifest) -> int:
    """Frames of the long stall: those that fill the pipeline, and some that come after."""
    return LEAST_CLOCKED_FRAMES + found.latency_cycles // found.initiation_interval


@dataclass(frozen=True)
class Budget:
    """What verify runs: `clocked` benches on the clocked harness, and the sizes of the others.

    `frames` are the least frames that vectors hold; `three_frames` and `fault_frames` the frames
    of those benches; each fault bench flips `registers` of each role `flips` times, then tries
    `control_tries` flips until one shows.
    """

    clocked: bool
    frames: int
    three_frames: int
    resets: int
    reset_frames: int
    fault_frames: int
    flips: int
    registers: int
    control_tries: int

    def options(self) -> dict[str, int]:
        """For options.json."""
        return asdict(self)


def budget(found: Manifest, frames: int) -> Budget:
    """The budget of a design for these `frames`; a small design gets every bench in full."""
    interval, latency = found.initiation_interval, found.latency_cycles
    clocked = latency + max(frames, LEAST_FRAMES) * interval > CLOCKED_ABOVE_CYCLES
    roles = len({register.role for register in found.registers}) or 1
    full = FAULT_CYCLES // (latency + interval) >= roles * REGISTERS * FLIPS
    runs = FAULT_CYCLES // (latency + full * interval)
    flips = _within(runs // roles, 1, FLIPS)
    return Budget(
        clocked=clocked,
        frames=stalled_frames(found) if clocked else LEAST_FRAMES,
        three_frames=_within(1 + (FRAME_CYCLES - latency) // interval, 1, 3),
        resets=_within(RESET_CYCLES // (2 * latency), 1, RESETS),
        reset_frames=1 if clocked else 2,
        fault_frames=2 if full else 1,
        flips=flips,
        registers=_within(runs // (roles * flips), 1, REGISTERS),
        control_tries=_within(runs, LEAST_CONTROL_TRIES, CONTROL_TRIES),
    )


def _within(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))
