"""What every bench starts with and ends with: its folder, its vectors, its report.

The parent process writes options.json and stream_<k>.npy (words uint8 [n, beats, word_bytes] of the
input, the output and each tap) and reads <test>.json back; numpy loads without pickles.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from cocotb.handle import HierarchyObject

from .. import manifest
from ..streams import Link

__all__ = ["Session"]


class Session:
    """One test's surroundings: `options`, the `link` to the design and the random generator."""

    def __init__(self, dut: HierarchyObject, name: str) -> None:
        self.name = name
        self.folder = Path(os.environ["TERCET_BENCH"])
        self.options: dict[str, Any] = json.loads((self.folder / "options.json").read_text())
        self.manifest = manifest.load(Path(self.options["directory"]))
        vectors = Path(self.options["vectors"])
        count = 2 + len(self.manifest.taps)
        files = [vectors / f"stream_{k}.npy" for k in range(count)]
        expected = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
        self.frames = len(expected[0])
        self.link = Link(dut, self.manifest, expected)
        self.rng = np.random.default_rng([int(self.options["seed"]), *name.encode()])

    def finish(self, passed: bool, **detail: Any) -> None:
        """Write the report; AssertionError with its first line unless the bench passed."""
        (self.folder / f"{self.name}.json").write_text(json.dumps(detail))
        lines = detail.get("report") or ["failed"]
        assert passed, lines[0]
