"""A flat Yosys JSON netlist: cells, the driver of every net bit, and named nets."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

__all__ = ["Bit", "Cell", "Netlist"]

Bit = int | str  # a net's number, or the constant "0", "1", "x", "z"


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell; `inputs` and `outputs` map a port to its bits, least significant first."""

    name: str
    type: str
    inputs: Mapping[str, tuple[Bit, ...]]
    outputs: Mapping[str, tuple[Bit, ...]]

    def input_bits(self, skip: frozenset[str] = frozenset()) -> Iterator[int]:
        """Net bits (no constants) on the input ports that are not in `skip`."""
        for port, bits in self.inputs.items():
            if port not in skip:
                yield from (bit for bit in bits if isinstance(bit, int))


class Netlist:
    """A flat module. `driver` maps a net bit to its cell; primary inputs have none."""

    def __init__(self, module: Mapping[str, Any]) -> None:
        self.cells = [
            _cell(name, cell)
            for name, cell in module["cells"].items()
            if cell["type"] != "$scopeinfo"
        ]
        self._nets: dict[str, tuple[Bit, ...]] = {
            _plain(name): tuple(net["bits"]) for name, net in module["netnames"].items()
        }
        self._names = sorted(self._nets)
        self.driver: dict[int, Cell] = {
            bit: cell
            for cell in self.cells
            for bits in cell.outputs.values()
            for bit in bits
            if isinstance(bit, int)
        }

    @classmethod
    def load(cls, path: Path, top: str) -> Netlist:
        """Read module `top` of a file that Yosys's write_json made."""
        return cls(json.loads(path.read_text())["modules"][top])

    def net(self, name: str) -> tuple[Bit, ...]:
        """Bits of a net by its hierarchical name; empty if there is no such net."""
        return self._nets.get(name, ())

    def nets_below(self, path: str) -> dict[str, tuple[Bit, ...]]:
        """Nets of the instance `path` by their local name, deeper instances included."""
        prefix = f"{path}."
        names = islice(self._names, bisect_left(self._names, prefix), None)
        below = takewhile(lambda name: name.startswith(prefix), names)
        return {name.removeprefix(prefix): self._nets[name] for name in below}

    def constant(self, bit: Bit) -> str | None:
        """The constant that a bit carries, None if it is a signal.

        Gowin's and Xilinx's netlists drive constants by cells without inputs.
        """
        if isinstance(bit, str):
            return bit
        cell = self.driver.get(bit)
        if cell is None or any(cell.inputs.values()):
            return None
        return {"VCC": "1", "GND": "0"}.get(cell.type)

    def count(self) -> dict[str, int]:
        """Number of cells of each type, by name."""
        return dict(sorted(Counter(cell.type for cell in self.cells).items()))


def _plain(name: str) -> str:
    r"""A private name with Yosys's marks taken out: `$flatten\a.\b.$1` -> `a.b.$1`."""
    return name.replace("$flatten", "").replace("\\", "")


def _cell(name: str, cell: Mapping[str, Any]) -> Cell:
    ways = cell["port_directions"]
    ports = {port: tuple(bits) for port, bits in cell["connections"].items()}
    return Cell(
        name=_plain(name),
        type=cell["type"],
        inputs={port: bits for port, bits in ports.items() if ways[port] != "output"},
        outputs={port: bits for port, bits in ports.items() if ways[port] != "input"},
    )
