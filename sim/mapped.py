"""Campaigns on a mapped netlist: upsets of its flip-flops, and of the bits that configure its LUTs.

The netlist is a build directory of its own (flow/mapped_netlist.py makes it), so that upsets of
flip-flops run on the engines that there are. A configuration upset inverts one bit of a look-up
table and stays: what it makes of the watched inferences is its outcome, and it is never masked but
latent, since the configuration is wrong to the end. The native engine runs it in the selecting form
of the netlist, the audit in the writable one (lut_init.py).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..quant.errors import ClaimError, InputError
from ..quant.ir import IntArray
from . import cache, lut_init, native_model
from .engines import native
from .faults import Faults, Mode
from .lut_init import Lut, Luts
from .manifest import inside
from .outcomes import Observed
from .steady import Prepared
from .testbed import StreamTestbed

__all__ = ["MappedTestbed"]

Json = dict[str, Any]
More = Callable[[int], None] | None

#: What runs behind the name `netlist`, the first one that there is.
_FASTEST = ("bitparallel", "native")


class MappedTestbed(StreamTestbed):
    """A mapped netlist with frames one after the other. Configuration bits, numbered as in `luts`,
    follow the other targets; a configuration upset is an experiment of its own."""

    engines: tuple[str, ...] = ("netlist", *StreamTestbed.engines)

    def __init__(self, prepared: Prepared, recipe: Json) -> None:
        found = prepared.model.manifest
        report = found.raw.get("mapped")
        if not isinstance(report, dict):
            raise InputError(f"{found.directory}: not a mapped netlist; use --engine netlist")
        super().__init__(prepared, {"kind": "netlist", "target": report.get("target")} | recipe)
        self.luts = _read_luts(found.directory)
        self.space = replace(prepared.model.design.space, config_bits=self.luts.bits)
        reachable = int(self.luts.reachable.sum())
        self.origin |= {"netlist": report | {"lut_init_bits_reachable": reachable}}

    @classmethod
    def reopen(cls, directory: Path, recipe: Json) -> StreamTestbed:
        """The testbed whose `origin` holds the recipe, below the build directory."""
        return super().reopen(directory / f"netlist_{recipe['target']}", recipe)

    def _observe(
        self, engine: str, faults: Faults, workers: int | None, progress: More
    ) -> Observed:
        self.check_engine(engine)
        if engine == "netlist":
            engine = next(name for name in _FASTEST if name in self.engines)
        config = faults.target >= self.space.first_config
        if not config.any():
            return super()._observe(engine, faults, workers, progress)
        if (
            len(faults) != len(faults.target)
            or not config.all()
            or (faults.mode != Mode.FLIP).any()
        ):
            raise InputError("configuration upsets are flips and come alone")
        bits = faults.target - self.space.first_config
        if engine == "cocotb":
            return self._audit(faults, bits, workers, progress)
        prepared, numbers = self._selecting
        chosen = _selected(faults, self.luts.codes(bits), numbers)
        return StreamTestbed(prepared, {})._observe(engine, chosen, workers, progress)

    @functools.cached_property
    def _selecting(self) -> tuple[Prepared, IntArray]:
        """The selecting form, and the number of each bit of its register."""
        clock = self.prepared.model.manifest.clock
        prepared = self._form(lambda text: self.luts.selecting(text, clock))
        design = prepared.model.design
        (register,) = (r for r in design.registers if r.name == lut_init.SELECTOR)
        numbers = [design.bit_numbers[bit.cell, bit.index] for bit in register.bits]
        return prepared, np.array(numbers, np.int64)

    def _form(self, change: Callable[[str], str], folder: Path | None = None) -> Prepared:
        """The netlist with its text changed; ClaimError if it then differs without a fault."""
        found = self.prepared.model.manifest
        text = change(found.verilog.read_text(encoding="utf-8"))
        with cache.scratch() as work:
            path = (folder or work) / "form.v"
            path.write_text(text, encoding="utf-8")
            model = native_model.build(replace(found, verilog=path))
        golden = native.golden(model, self.prepared.stimulus)
        same = np.array_equal(golden.words, self.prepared.golden.words)
        if not same or golden.cycles != self.prepared.golden.cycles:
            raise ClaimError("netlist: with writable configuration it is another design")
        return replace(self.prepared, model=model, golden=golden)

    def _audit(
        self, faults: Faults, bits: IntArray, workers: int | None, progress: More
    ) -> Observed:
        """In cocotb, with the struck tables as memories."""
        from .engines import cocotb  # needs cocotb installed

        tables, minterms = self.luts.locate(bits)
        with cache.scratch() as folder:
            prepared = self._form(lambda t: self.luts.writable(t, set(tables.tolist())), folder)
            first = {memory.name: memory.first for memory in prepared.model.design.space.memories}
            targets = [first[lut_init.variable(int(table))] for table in tables]
            struck = Faults.single(faults.start, np.array(targets, np.int64) + minterms)
            return cocotb.inject(prepared, struck, workers=workers, progress=progress)


def _read_luts(directory: Path) -> Luts:
    path = inside(directory, "luts.json", directory / "manifest.json")
    try:
        return Luts(tuple(Lut.from_json(row) for row in json.loads(path.read_text())))
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{path}: not the tables of a netlist; map it again") from None


def _selected(faults: Faults, codes: IntArray, numbers: IntArray) -> Faults:
    """Flips that write each code into a register of 0 whose bits have these numbers."""
    ones = (codes[:, None] >> np.arange(len(numbers)) & 1).astype(bool)
    first = np.concatenate(([0], np.cumsum(ones.sum(axis=1)))).astype(np.int64)
    targets = np.broadcast_to(numbers, ones.shape)[ones]
    return Faults.flips(faults.start, first, targets)
