"""What the cells of a mapped netlist do: look-up tables, carries, multiplexers, flip-flops.

Written after the vendors' simulation models as Yosys ships them (share/*/cells_sim.v), and checked
against these in the tests. Cells of ECP5, Xilinx series 7, iCE40 and Gowin: a cell that is not
here, or one in a mode that is not here, is an error that names it. A look-up table keeps its INIT
value in one piece, so that its configuration bits can be struck.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..quant.errors import InputError
from ..quant.names import printable

__all__ = ["Bit", "Cell", "FlipFlop", "Sheet", "combinational", "flip_flop", "parse"]

Bit = int | str  # a net's number, or the constant "0", "1", "x", "z"


@dataclass(frozen=True)
class Cell:
    """One cell of a Yosys JSON netlist; ports map to their bits, least significant first."""

    name: str
    type: str
    parameters: Mapping[str, str]
    ports: Mapping[str, tuple[Bit, ...]]

    def bit(self, port: str, default: str = "0") -> Bit:
        """The one bit of a port; the constant `default` where it is not connected."""
        bits = self.ports.get(port, ())
        return bits[0] if bits else default

    def text(self, parameter: str, default: str) -> str:
        """A parameter that is a string."""
        value = self.parameters.get(parameter, default)
        return value[:-1] if re.fullmatch(r"[01xz]* +", value) else value

    def number(self, parameter: str) -> int:
        """A parameter that is a number; unknown digits are 0."""
        digits = re.sub("[xz]", "0", self.parameters.get(parameter, "0"))
        return int(digits or "0", 2)

    def refuse(self, why: str) -> InputError:
        """The error that names this cell."""
        where = f"cell {printable(self.name)} ({printable(self.type)})"
        return InputError(f"netlist: {where}: {why}")


def parse(name: str, entry: Mapping[str, Any]) -> Cell:
    """A cell from its entry in the JSON netlist."""
    ports = {port: tuple(bits) for port, bits in entry["connections"].items()}
    return Cell(name, entry["type"], entry.get("parameters", {}), ports)


class Sheet(Protocol):
    """Where the model of a cell is written down, in Verilog expressions."""

    def net(self, bit: Bit) -> str:
        """The expression of a bit."""

    def table(self, cell: Cell, parameter: str, inputs: int) -> int:
        """A new look-up table with the contents of a parameter; its number."""

    def read(self, table: int, inputs: tuple[Bit, ...]) -> str:
        """The bit of a table at an address, least significant input first."""

    def drive(self, bit: Bit, expression: str) -> str:
        """Let a net carry the expression; its name, that of a new wire if it is not connected."""

    def wire(self, expression: str, width: int = 1) -> str:
        """A new wire that carries the expression; its name."""

    def memory(self, cell: Cell, width: int, contents: list[int]) -> str:
        """A new memory with these words; its name."""

    def clocked(self, clock: Bit, statement: str) -> None:
        """A statement of every rising edge of a clock."""


@dataclass(frozen=True)
class FlipFlop:
    """A flip-flop of one bit: `enable` and `reset` are (bit, level at which it acts) or None; a
    reset sets it to `value`, at once if `asynchronous`, only while enabled if `enable_first`."""

    q: Bit
    d: Bit
    clock: Bit
    init: int
    enable: tuple[Bit, int] | None = None
    reset: tuple[Bit, int] | None = None
    value: int = 0
    asynchronous: bool = False
    enable_first: bool = False
    invert: bool = False


def flip_flop(cell: Cell) -> FlipFlop | None:
    """The flip-flop that a cell is, None if it is none; InputError for a mode without a model."""
    if cell.type == "TRELLIS_FF":
        return _trellis(cell)
    for pattern, make in _FLIP_FLOPS:
        match = pattern.fullmatch(cell.type)
        if match:
            if match["falling"]:
                raise cell.refuse("clocked by the falling edge; use the rising edge")
            return make(cell, match["mode"] or "")
    return None


def _trellis(cell: Cell) -> FlipFlop:
    """ECP5 TRELLIS_FF. The global reset (GSR) is not used."""
    if cell.text("CLKMUX", "CLK") != "CLK":
        raise cell.refuse("clocked by the falling edge; use the rising edge")
    if cell.text("LSRMODE", "LSR") != "LSR":
        raise cell.refuse("loads its M input; only set and reset have a model")
    value = int(cell.text("REGSET", "RESET") == "SET")
    enable = {
        "1": None,
        "0": ("0", 1),
        "INV": (cell.bit("CE"), 0),
    }.get(cell.text("CEMUX", "1"), (cell.bit("CE"), 1))
    level = int(cell.text("LSRMUX", "LSR") != "INV")
    reset = cell.bit("LSR")
    return FlipFlop(
        q=cell.bit("Q"),
        d=cell.bit("DI"),
        clock=cell.bit("CLK"),
        init=value,
        enable=enable,
        reset=None if reset == str(1 - level) else (reset, level),
        value=value,
        asynchronous=cell.text("SRMODE", "LSR_OVER_CE") == "ASYNC",
    )


def _xilinx(cell: Cell, mode: str) -> FlipFlop:
    """FDRE, FDSE (synchronous), FDCE, FDPE (asynchronous); set and reset come before enable. They
    start at INIT, if there is none at the value that set or reset gives."""
    if cell.number("IS_C_INVERTED"):
        raise cell.refuse("clocked by the falling edge; use the rising edge")
    port = {"R": "R", "S": "S", "C": "CLR", "P": "PRE"}[mode]
    level, value = 1 - cell.number(f"IS_{port}_INVERTED"), int(mode in "SP")
    return FlipFlop(
        q=cell.bit("Q"),
        d=cell.bit("D"),
        clock=cell.bit("C"),
        init=cell.number("INIT") & 1 if "INIT" in cell.parameters else value,
        enable=(cell.bit("CE"), 1),
        reset=(cell.bit(port), level),
        value=value,
        asynchronous=mode in "CP",
        invert=bool(cell.number("IS_D_INVERTED")),
    )


def _ice40(cell: Cell, mode: str) -> FlipFlop:
    """SB_DFF*: SR, SS synchronous and only while enabled; R, S asynchronous; starts at 0."""
    port = mode.removeprefix("E")[-1:]
    return FlipFlop(
        q=cell.bit("Q"),
        d=cell.bit("D"),
        clock=cell.bit("C"),
        init=0,
        enable=(cell.bit("E"), 1) if mode.startswith("E") else None,
        reset=(cell.bit(port), 1) if port else None,
        value=int(port == "S"),
        asynchronous=mode.removeprefix("E") in ("R", "S"),
        enable_first=True,
    )


def _gowin(cell: Cell, mode: str) -> FlipFlop:
    """DFF*: S, R synchronous, P, C asynchronous, E has an enable; starts at INIT, which is the
    value that set or reset gives."""
    kind = mode.removesuffix("E")
    port = {"S": "SET", "R": "RESET", "P": "PRESET", "C": "CLEAR"}.get(kind)
    value = int(kind in ("S", "P"))
    return FlipFlop(
        q=cell.bit("Q"),
        d=cell.bit("D"),
        clock=cell.bit("CLK"),
        init=cell.number("INIT") & 1 if "INIT" in cell.parameters else value,
        enable=(cell.bit("CE"), 1) if mode.endswith("E") else None,
        reset=(cell.bit(port), 1) if port else None,
        value=value,
        asynchronous=kind in ("P", "C"),
    )


_FLIP_FLOPS: tuple[tuple[re.Pattern[str], Callable[[Cell, str], FlipFlop]], ...] = (
    (re.compile(r"FD(?P<mode>[RSCP])E(?P<falling>_1)?"), _xilinx),
    (re.compile(r"SB_DFF(?P<falling>N)?(?P<mode>E?(SR|SS|R|S)?)"), _ice40),
    (re.compile(r"DFF(?P<falling>N)?(?P<mode>[SRPC]?E?)"), _gowin),
)


def combinational(cell: Cell, sheet: Sheet) -> None:
    """Write down what a cell without state does. InputError naming the cell if it is unknown."""
    if re.fullmatch(r"LUT[1-6]|SB_LUT4", cell.type):
        _lut(cell, sheet)
    elif cell.type in _MODELS:
        _MODELS[cell.type](cell, sheet)
    else:
        raise cell.refuse("no model; it may hold state, so that its packing must be forbidden")


def _lut(cell: Cell, sheet: Sheet) -> None:
    if cell.type == "SB_LUT4":
        names, parameter = ["I0", "I1", "I2", "I3"], "LUT_INIT"
    else:
        letters = ["A", "B", "C", "D"] if "Z" in cell.ports else [f"I{i}" for i in range(6)]
        names, parameter = letters[: int(cell.type[3])], "INIT"
    output = next(port for port in ("O", "Z", "F") if port in cell.ports)
    table = sheet.table(cell, parameter, len(names))
    sheet.drive(cell.bit(output), sheet.read(table, tuple(cell.bit(name) for name in names)))


def _ccu2c(cell: Cell, sheet: Sheet) -> None:
    """ECP5's two carry cells. The low four bits of each INIT also make the carry's input."""
    carry = sheet.net(cell.bit("CIN"))
    for half in (0, 1):
        inputs = tuple(cell.bit(f"{name}{half}") for name in "ABCD")
        table = sheet.table(cell, f"INIT{half}", 4)
        total = sheet.wire(sheet.read(table, inputs))
        low = sheet.wire(sheet.read(table, (*inputs[:2], "0", "0")))
        if cell.text(f"INJECT1_{half}", "YES") == "YES":
            added, generated = "1'b0", "1'b0"
        else:
            added, generated = carry, low
        sheet.drive(cell.bit(f"S{half}", "x"), f"{total} ^ {added}")
        carry = sheet.wire(f"{total} ? {carry} : {generated}")
    sheet.drive(cell.bit("COUT", "x"), carry)


def _multiplier(cell: Cell, sheet: Sheet) -> None:
    """ECP5's 18 x 18 multiplier without registers: a product of 36 bits."""
    for parameter, value in cell.parameters.items():
        registered = re.fullmatch(r"REG_\w+_CLK", parameter) and value.strip() != "NONE"
        if registered or (parameter == "MULT_BYPASS" and value.strip() != "DISABLED"):
            raise cell.refuse(
                f"{parameter} is {printable(value)}; only the plain product has a model"
            )
    for port in ("SOURCEA", "SOURCEB"):
        if cell.bit(port) != "0":
            raise cell.refuse(f"{port} is used; only the plain product has a model")
    operands = []
    for side in "AB":
        bits = [sheet.net(cell.bit(f"{side}{i}")) for i in reversed(range(18))]
        sign = sheet.wire(f"{sheet.net(cell.bit(f'SIGNED{side}'))} & {bits[0]}")
        operands.append(f"{{{{18{{{sign}}}}}, {', '.join(bits)}}}")
    product = sheet.wire(" * ".join(operands), 36)
    for i in range(36):
        if f"P{i}" in cell.ports:
            sheet.drive(cell.bit(f"P{i}", "x"), f"{product}[{i}]")


def _carry4(cell: Cell, sheet: Sheet) -> None:
    """Xilinx' four carry cells."""
    carry = f"({sheet.net(cell.bit('CI'))} | {sheet.net(cell.bit('CYINIT'))})"
    for i in range(4):
        select, data = (sheet.net(_at(cell, port, i)) for port in ("S", "DI"))
        sheet.drive(_at(cell, "O", i), f"{select} ^ {carry}")
        carry = sheet.drive(_at(cell, "CO", i), f"{select} ? {carry} : {data}")


def _at(cell: Cell, port: str, index: int) -> Bit:
    bits = cell.ports.get(port, ())
    return bits[index] if index < len(bits) else "x"


def _sb_carry(cell: Cell, sheet: Sheet) -> None:
    a, b, c = (sheet.net(cell.bit(port)) for port in ("I0", "I1", "CI"))
    sheet.drive(cell.bit("CO"), f"({a} & {b}) | (({a} | {b}) & {c})")


def _lut_ram(cell: Cell, sheet: Sheet) -> None:
    """ECP5's 16 words of 4 bits in LUTs: written at the edge, read at once."""
    if cell.text("WCKMUX", "WCK") != "WCK":
        raise cell.refuse("clocked by the falling edge; use the rising edge")
    contents = cell.number("INITVAL")
    words = [contents >> 4 * i & 15 for i in range(16)]
    memory = sheet.memory(cell, 4, words)
    data, to, at = (_bus(cell, port, sheet) for port in ("DI", "WAD", "RAD"))
    enable = {"1": "1'b1", "0": "1'b0", "INV": f"~{sheet.net(cell.bit('WRE'))}"}.get(
        cell.text("WREMUX", "WRE"), sheet.net(cell.bit("WRE"))
    )
    sheet.clocked(cell.bit("WCK"), f"if ({enable}) {memory}[{to}] <= {data};")
    word = sheet.wire(f"{memory}[{at}]", 4)
    for i in range(4):
        sheet.drive(_at(cell, "DO", i), f"{word}[{i}]")


def _bus(cell: Cell, port: str, sheet: Sheet) -> str:
    return "{" + ", ".join(sheet.net(bit) for bit in reversed(cell.ports[port])) + "}"


_ALU_MODES = {  # mode -> (S, C): SUM = S ^ CIN, COUT = S ? CIN : C
    0: ("{a} ^ {b}", "{a}"),
    1: ("{a} ^ ~{b}", "{a}"),
    2: ("{s} ? {a} ^ {b} : {a} ^ ~{b}", "{a}"),
    3: ("{a} ^ ~{b}", "1'b1"),
    4: ("{a} ^ ~{b}", "{a}"),
    5: ("~{a} ^ {b}", "{b}"),
    6: ("{a}", "1'b0"),
    7: ("~{a}", "1'b1"),
    8: ("{s} ? {a} : ~{a}", "{a}"),
    9: ("({a} & {b}) ^ {s}", "{a} & {b}"),
}


def _alu(cell: Cell, sheet: Sheet) -> None:
    """Gowin's carry cell; its table is fixed by its mode and has no INIT."""
    mode = cell.number("ALU_MODE")
    if mode not in _ALU_MODES:
        raise cell.refuse(f"ALU_MODE {mode} has no model")
    nets = {
        key: sheet.net(cell.bit(port)) for key, port in zip("abs", ("I0", "I1", "I3"), strict=True)
    }
    select, data = (sheet.wire(text.format(**nets)) for text in _ALU_MODES[mode])
    carry = sheet.net(cell.bit("CIN"))
    sheet.drive(cell.bit("SUM", "x"), f"{select} ^ {carry}")
    sheet.drive(cell.bit("COUT", "x"), f"{select} ? {carry} : {data}")


def _mux(output: str, one: str, zero: str, select: str) -> Callable[[Cell, Sheet], None]:
    def model(cell: Cell, sheet: Sheet) -> None:
        chosen, high, low = (sheet.net(cell.bit(port)) for port in (select, one, zero))
        sheet.drive(cell.bit(output), f"{chosen} ? {high} : {low}")

    return model


def _gate(output: str, text: str, *inputs: str) -> Callable[[Cell, Sheet], None]:
    def model(cell: Cell, sheet: Sheet) -> None:
        sheet.drive(cell.bit(output), text.format(*(sheet.net(cell.bit(i)) for i in inputs)))

    return model


_MODELS: dict[str, Callable[[Cell, Sheet], None]] = {
    "CCU2C": _ccu2c,
    "PFUMX": _mux("Z", "ALUT", "BLUT", "C0"),
    "L6MUX21": _mux("Z", "D1", "D0", "SD"),
    "MULT18X18D": _multiplier,
    "TRELLIS_DPR16X4": _lut_ram,
    "CARRY4": _carry4,
    "MUXF7": _mux("O", "I1", "I0", "S"),
    "MUXF8": _mux("O", "I1", "I0", "S"),
    "SB_CARRY": _sb_carry,
    "ALU": _alu,
    **{
        f"MUX2{kind}": _mux("O", "I1", "I0", "S0")
        for kind in ("", *(f"_LUT{i}" for i in range(5, 9)))
    },
    "INV": _gate("O", "~{}", "I"),
    "BUF": _gate("O", "{}", "I"),
    "IBUF": _gate("O", "{}", "I"),
    "OBUF": _gate("O", "{}", "I"),
}
