"""The cells that hold state, after the proof that nothing else does.

Every cell of the cleaned netlist (Yosys JSON) is a flip-flop on the rising edge of the one clock, a
memory port, or logic; anything else is an error that names the cell and the fix. An asynchronous
set, reset or load must be made of inputs of the top module only: then no upset can raise it, and it
is known in which cycles it holds a flip-flop.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..quant.errors import InputError
from ..quant.names import printable

__all__ = ["Condition", "controls", "evaluate", "flip_flops", "memories"]

Json = dict[str, Any]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

_COMBINATIONAL = re.compile(
    r"""\$(not|pos|neg|buf|and|or|xor|xnor|reduce_(and|or|xor|xnor|bool)|logic_(not|and|or)|
    shl|shr|sshl|sshr|shift|shiftx|lt|le|eq|ne|eqx|nex|ge|gt|add|sub|mul|div|mod|divfloor|
    modfloor|pow|mux|pmux|bmux|demux|bwmux|bweqx|slice|concat|lut|sop|alu|macc|macc_v2|lcu|fa|
    memrd|memrd_v2|meminit|meminit_v2|scopeinfo|assert|assume|cover|live|fair|check|print|
    specify2|specify3|specrule|
    _(BUF|NOT|AND|NAND|OR|NOR|XOR|XNOR|ANDNOT|ORNOT|MUX|NMUX|AOI3|OAI3|AOI4|OAI4)_)""",
    re.VERBOSE,
)
_FLIP_FLOP = re.compile(r"\$(dff|dffe|sdff|sdffe|sdffce|adff|adffe|aldff|aldffe|dffsr|dffsre)")
_ASYNCHRONOUS = {"ARST": "reset", "ALOAD": "load", "SET": "set", "CLR": "clear"}
_GATES = {"$not": "not", "$logic_not": "not", "$and": "and", "$logic_and": "and", "$or": "or"}
_GATES |= {"$logic_or": "or", "$xor": "xor", "$mux": "mux", "$pos": "buf", "$buf": "buf"}
_REDUCING = ("$logic_not", "$logic_and", "$logic_or")

#: A condition on inputs of the top module: ("in", port, bit), ("constant", 0 or 1), or the name of
#: a gate (not, buf, and, or, xor, mux: A, B, S) and its operands.
Condition = tuple[Any, ...]


def flip_flops(module: Json) -> dict[str, Json]:
    """The flip-flops by cell name; InputError naming a cell that is not supported."""
    inputs = _inputs(module)
    clocks: dict[str, str] = {}
    found = {}
    for name, cell in module["cells"].items():
        kind, where = cell["type"], f"cell {printable(name)} ({printable(cell['type'])})"
        if _FLIP_FLOP.fullmatch(kind):
            found[name] = cell
            _check_clock(cell, where, inputs, clocks)
        elif kind == "$memwr_v2":
            if not _flag(cell, "CLK_ENABLE"):
                raise InputError(f"{where}: memory written without a clock; register the write")
            _check_clock(cell, where, inputs, clocks)
        elif kind in ("$memrd", "$memrd_v2") and _flag(cell, "CLK_ENABLE"):
            raise InputError(f"{where}: clocked memory read; use a register after the read")
        elif not _COMBINATIONAL.fullmatch(kind):
            what = "latch; assign it in every branch, or clock it" if "latch" in kind else "cell"
            raise InputError(f"{where}: {what} holds state or is unknown; only flip-flops may")
    controls(module, found)
    return found


def memories(module: Json) -> dict[str, tuple[int, int, bool]]:
    """Name -> (width, words, written) of each memory. A table that Yosys made of a case statement
    has a name with $ and is logic, no memory."""
    written = {
        _text(cell["parameters"]["MEMID"]).removeprefix("\\")
        for cell in module["cells"].values()
        if cell["type"] == "$memwr_v2"
    }
    return {
        name: (entry["width"], entry["size"], name in written)
        for name, entry in module.get("memories", {}).items()
        if name in written or not entry.get("hide_name")
    }


def controls(module: Json, cells: dict[str, Json]) -> dict[str, list[tuple[Condition, ...]]]:
    """Flip-flop cell -> for each of its bits the conditions under which an asynchronous set, reset
    or load holds it; InputError for one that depends on more than inputs of the top module."""
    cones = _Cones(module)
    found = {}
    for name, cell in cells.items():
        width = len(cell["connections"]["Q"])
        bits: list[list[Condition]] = [[] for _ in range(width)]
        for key, what in _ASYNCHRONOUS.items():
            nets = cell["connections"].get(key, [])
            inverted = bool(nets) and not _flag(cell, f"{key}_POLARITY")
            for i, net in enumerate(nets if len(nets) == width else nets * width):
                condition = cones.condition(net)
                if condition is None:
                    where = f"cell {printable(name)} ({printable(cell['type'])})"
                    raise InputError(
                        f"{where}: asynchronous {what} made inside the design; drive it from an "
                        "input of the top module or use a synchronous one"
                    )
                bits[i].append(("not", condition) if inverted else condition)
        if any(bits):
            found[name] = [tuple(one) for one in bits]
    return found


def evaluate(condition: Condition, value: Callable[[str, int], Flags]) -> Flags:
    """Truth [cycles] of a condition; `value(port, bit)` gives an input's bit in every cycle."""
    kind, *operands = condition
    match kind:
        case "in":
            return value(*operands)
        case "constant":
            return np.array(bool(operands[0]))
        case "not":
            return ~evaluate(operands[0], value)
        case "buf":
            return evaluate(operands[0], value)
    a, b = (evaluate(one, value) for one in operands[:2])
    if kind == "mux":
        return np.where(evaluate(operands[2], value), b, a)
    return a & b if kind == "and" else a | b if kind == "or" else a ^ b


class _Cones:
    """Small cones of logic between inputs of the top module and a net."""

    def __init__(self, module: Json) -> None:
        self.inputs = {
            net: (name, bit)
            for name, port in module["ports"].items()
            if port["direction"] == "input"
            for bit, net in enumerate(port["bits"])
        }
        self.drivers = {
            net: (cell, bit)
            for cell in module["cells"].values()
            if cell["type"] in _GATES
            for bit, net in enumerate(cell["connections"]["Y"])
        }

    def condition(self, net: Any, depth: int = 0) -> Condition | None:
        """The condition of a net; None if it depends on anything but inputs, or is deep."""
        if net in self.inputs:
            return ("in", *self.inputs[net])
        if net not in self.drivers:
            return ("constant", int(net == "1")) if isinstance(net, str) else None
        cell, bit = self.drivers[net]
        ports, kind = cell["connections"], cell["type"]
        data = [ports[key] for key in ("A", "B") if key in ports]
        narrow = kind in _REDUCING and max(map(len, data)) > 1
        if depth > 16 or narrow or any(bit >= len(nets) for nets in data):
            return None
        operands = [self.condition(nets[bit], depth + 1) for nets in data]
        operands += [self.condition(one, depth + 1) for one in ports.get("S", [])]
        return None if None in operands else (_GATES[kind], *operands)


def _inputs(module: Json) -> dict[Any, str]:
    """Net -> name of the one-bit input of the top module."""
    return {
        port["bits"][0]: name
        for name, port in module["ports"].items()
        if port["direction"] == "input" and len(port["bits"]) == 1
    }


def _text(value: str) -> str:
    return value[:-1] if re.fullmatch(r"[01xz]* +", value) else value


def _flag(cell: Json, parameter: str) -> bool:
    return int(cell["parameters"][parameter], 2) != 0


def _check_clock(cell: Json, where: str, inputs: dict[Any, str], clocks: dict[str, str]) -> None:
    clock = inputs.get(cell["connections"]["CLK"][0])
    if clock is None:
        raise InputError(
            f"{where}: its clock is no input of the top module; use one plain clock and an enable"
        )
    if not _flag(cell, "CLK_POLARITY"):
        raise InputError(f"{where}: clocked by the falling edge; use the rising edge")
    other = next(iter(clocks), clock)
    clocks.setdefault(clock, where)
    if clock != other:
        raise InputError(f"{where}: second clock {printable(clock)}; only one clock is supported")
