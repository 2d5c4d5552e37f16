"""What every bench starts with and ends with: its folder, its vectors, its report.

The parent process writes options.json and stream_<k>.bin (words uint8 [n, beats, word_bytes] of the
input, the output and each tap) and reads <test>.json back.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from cocotb.handle import HierarchyObject

from .. import manifest
from ..budget import Budget
from ..streams import Link

__all__ = ["Session"]


class Session:
    """One test's surroundings: `options`, `budget`, `link` to the design, random generator."""

    def __init__(self, dut: HierarchyObject, name: str) -> None:
        self.name = name
        self.folder = Path(os.environ["TERCET_BENCH"])
        self.options: dict[str, Any] = json.loads((self.folder / "options.json").read_text())
        self.manifest = manifest.load(Path(self.options["directory"]))
        vectors = Path(self.options["vectors"])
        streams = [self.manifest.input, self.manifest.output]
        streams += [tap.stream for tap in self.manifest.taps]
        expected = [
            np.memmap(vectors / f"stream_{k}.bin", np.uint8, "r").reshape(
                -1, stream.beats, stream.word_bytes
            )
            for k, stream in enumerate(streams)
        ]
        self.budget = Budget(**self.options["budget"])
        self.frames = len(expected[0])
        self.link = Link(dut, self.manifest, expected)
        self.rng = np.random.default_rng([int(self.options["seed"]), *name.encode()])

    def finish(self, passed: bool, **detail: Any) -> None:
        """Write the report; AssertionError with its first line unless the bench passed."""
        (self.folder / f"{self.name}.json").write_text(json.dumps(detail))
        lines = detail.get("report") or ["failed"]
        assert passed, lines[0]
