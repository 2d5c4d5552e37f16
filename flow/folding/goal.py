"""What the user wants of a folding: a file, frames a second, a share of the device, or nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ...quant.errors import InputError
from ..targets import Target

__all__ = ["Goal"]


@dataclass(frozen=True)
class Goal:
    """`fold` is "auto" or a TOML file; `fps` frames a second; `fit` a share of the device, 0..1.

    At most one of them. `clock_mhz` is the clock that frames a second are counted with; None takes
    what the target is assumed to reach. Raises InputError naming the option.
    """

    fold: str = "auto"
    fps: float | None = None
    fit: float | None = None
    clock_mhz: float | None = None

    def __post_init__(self) -> None:
        given = {"--fold": self.fold != "auto", "--fps": self.fps, "--fit": self.fit}
        named = [name for name, value in given.items() if value not in (None, False)]
        if len(named) > 1:
            raise InputError(f"{' and '.join(named)} exclude each other; give one of them")
        for name, value in (("--fps", self.fps), ("--clock", self.clock_mhz)):
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name}: must be above 0, not {value:g}")
        if self.fit is not None and not 0 < self.fit <= 1:
            raise InputError(f"--fit: must be above 0 and at most 1, not {self.fit:g}")

    @property
    def asks(self) -> bool:
        """Whether the folding is told, by a file or a goal."""
        return self.fold != "auto" or self.fps is not None or self.fit is not None

    def text(self, target: Target) -> str:
        """The goal as it was asked for, for messages."""
        if self.fps is not None:
            return f"--fps {self.fps:g} at {self.clock(target):g} MHz"
        return f"--fit {self.fit:g}" if self.fit is not None else f"--fold {self.fold}"

    def clock(self, target: Target) -> float:
        """The clock in MHz."""
        return self.clock_mhz or target.clock_mhz

    def interval(self, target: Target) -> int | None:
        """Cycles from frame to frame that `fps` leaves, None without."""
        if self.fps is None:
            return None
        cycles = int(self.clock(target) * 1e6 / self.fps)
        if cycles < 1:
            raise InputError(
                f"--fps {self.fps:g}: more frames than cycles at {self.clock(target):g} MHz"
            )
        return cycles
