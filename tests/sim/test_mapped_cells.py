"""Own models of mapped cells against the vendors' simulation models that Yosys ships."""

import json
from pathlib import Path

import pytest

from tercet.flow.yosys import run
from tercet.quant.errors import InputError
from tercet.sim import mapped_sites, mapped_verilog

NO_NAMES = mapped_sites.Names((), {}, frozenset())

# Every module has the inputs clk and x [40] and the output y; the cells' names do not matter.
ECP5 = """
LUT4 #(.INIT(16'h6a3c)) l4 (.A(x[0]), .B(x[1]), .C(x[2]), .D(x[3]), .Z(y[0]));
PFUMX m5 (.ALUT(x[0]), .BLUT(x[1]), .C0(x[2]), .Z(y[1]));
L6MUX21 m6 (.D0(x[0]), .D1(x[1]), .SD(x[2]), .Z(y[2]));
CCU2C #(.INIT0(16'h96a5), .INIT1(16'h3c5a), .INJECT1_0("NO"), .INJECT1_1("NO")) c0
  (.CIN(x[8]), .A0(x[0]), .B0(x[1]), .C0(x[2]), .D0(x[3]), .A1(x[4]), .B1(x[5]), .C1(x[6]),
   .D1(x[7]), .S0(y[3]), .S1(y[4]), .COUT(y[5]));
CCU2C #(.INIT0(16'h96a5), .INIT1(16'h3c5a), .INJECT1_0("YES"), .INJECT1_1("NO")) c1
  (.CIN(x[8]), .A0(x[0]), .B0(x[1]), .C0(x[2]), .D0(x[3]), .A1(x[4]), .B1(x[5]), .C1(x[6]),
   .D1(x[7]), .S0(y[6]), .S1(y[7]), .COUT(y[8]));
TRELLIS_FF #(.CEMUX("CE"), .LSRMUX("INV"), .REGSET("SET")) f0
  (.CLK(clk), .DI(x[0]), .CE(x[1]), .LSR(x[2]), .Q(y[9]));
TRELLIS_FF #(.CEMUX("INV")) f1 (.CLK(clk), .DI(x[0]), .CE(x[1]), .LSR(x[2]), .Q(y[10]));
TRELLIS_FF #(.CEMUX("1")) f2 (.CLK(clk), .DI(x[0]), .CE(x[1]), .LSR(1'b0), .Q(y[11]));
TRELLIS_FF #(.CEMUX("CE"), .SRMODE("ASYNC")) f3
  (.CLK(clk), .DI(x[0]), .CE(x[1]), .LSR(x[2]), .Q(y[12]));
TRELLIS_FF #(.CEMUX("0"), .REGSET("SET")) f4 (.CLK(clk), .DI(x[0]), .LSR(x[2]), .Q(y[13]));
"""
LUT_RAM = """
TRELLIS_DPR16X4 #(.INITVAL(64'h0123456789abcdef)) ram
  (.DI(x[3:0]), .WAD(x[7:4]), .RAD(x[11:8]), .WRE(x[12]), .WCK(clk), .DO(y[3:0]));
"""
XILINX = """
LUT6 #(.INIT(64'h0123456789abcdef)) l6
  (.I0(x[0]), .I1(x[1]), .I2(x[2]), .I3(x[3]), .I4(x[4]), .I5(x[5]), .O(y[0]));
LUT3 #(.INIT(8'h6a)) l3 (.I0(x[0]), .I1(x[1]), .I2(x[2]), .O(y[1]));
LUT1 #(.INIT(2'h1)) l1 (.I0(x[0]), .O(y[2]));
INV inv (.I(x[0]), .O(y[3]));
MUXF7 m7 (.I0(x[0]), .I1(x[1]), .S(x[2]), .O(y[4]));
MUXF8 m8 (.I0(x[0]), .I1(x[1]), .S(x[2]), .O(y[5]));
CARRY4 c (.CI(x[0]), .CYINIT(x[1]), .DI(x[5:2]), .S(x[9:6]), .O(y[9:6]), .CO(y[13:10]));
FDRE #(.INIT(1'b1)) f0 (.C(clk), .CE(x[0]), .D(x[1]), .R(x[2]), .Q(y[14]));
FDSE #(.IS_D_INVERTED(1'b1)) f1 (.C(clk), .CE(x[0]), .D(x[1]), .S(x[2]), .Q(y[15]));
FDCE f2 (.C(clk), .CE(x[0]), .D(x[1]), .CLR(x[2]), .Q(y[16]));
FDPE #(.INIT(1'b1)) f3 (.C(clk), .CE(x[0]), .D(x[1]), .PRE(x[2]), .Q(y[17]));
FDRE #(.IS_R_INVERTED(1'b1)) f4 (.C(clk), .CE(x[0]), .D(x[1]), .R(x[2]), .Q(y[18]));
"""
ICE40 = "SB_LUT4 #(.LUT_INIT(16'h6a3c)) l (.I0(x[0]), .I1(x[1]), .I2(x[2]), .I3(x[3]), .O(y[0]));\n"
ICE40 += "SB_CARRY c (.I0(x[0]), .I1(x[1]), .CI(x[2]), .CO(y[1]));\n"
ICE40 += "".join(
    f"SB_DFF{kind} f{i} (.C(clk), .D(x[0]){more}, .Q(y[{i + 2}]));\n"
    for i, (kind, more) in enumerate(
        (
            enable + reset,
            (", .E(x[1])" if enable else "") + (f", .{reset[-1]}(x[2])" if reset else ""),
        )
        for enable in ("", "E")
        for reset in ("", "SR", "SS", "R", "S")
    )
)
GOWIN = """
LUT4 #(.INIT(16'h6a3c)) l4 (.I0(x[0]), .I1(x[1]), .I2(x[2]), .I3(x[3]), .F(y[0]));
LUT2 #(.INIT(4'h2)) l2 (.I0(x[0]), .I1(x[1]), .F(y[1]));
MUX2_LUT5 m (.I0(x[0]), .I1(x[1]), .S0(x[2]), .O(y[2]));
"""
GOWIN += "".join(
    f"ALU #(.ALU_MODE({mode})) a{mode} (.I0(x[0]), .I1(x[1]), .I3(x[2]), .CIN(x[3]), "
    f".SUM(y[{3 + 2 * mode}]), .COUT(y[{4 + 2 * mode}]));\n"
    for mode in range(10)
)
GOWIN += "".join(
    f"DFF{kind} f{i} (.CLK(clk), .D(x[0]){more}, .Q(y[{i + 23}]));\n"
    for i, (kind, more) in enumerate(
        (kind + enable, more + (", .CE(x[1])" if enable else ""))
        for enable in ("", "E")
        for kind, more in (
            ("", ""),
            ("S", ", .SET(x[2])"),
            ("R", ", .RESET(x[2])"),
            ("P", ", .PRESET(x[2])"),
            ("C", ", .CLEAR(x[2])"),
        )
    )
)
DEEPER = "-tempinduct"
FROM_START = "-tempinduct-baseonly -maxsteps 5"  # words of a memory are not seen at once

CASES = {
    "ecp5": ("ecp5", ECP5, 14, DEEPER),
    "lut_ram": ("ecp5", LUT_RAM, 4, FROM_START),
    "xilinx": ("xilinx", XILINX, 19, DEEPER),
    "ice40": ("ice40", ICE40, 12, DEEPER),
    "gowin": ("gowin", GOWIN, 33, DEEPER),
}


def write(folder: Path, body: str, width: int) -> None:
    text = f"module top(input clk, input [39:0] x, output [{width - 1}:0] y);\n{body}endmodule\n"
    (folder / "cells.v").write_text(text)


def library(folder: Path, vendor: str) -> None:
    """cells.v as cells.json, with the ports of the vendor's cells."""
    boxes = {"ecp5": "cells_bb.v", "xilinx": "cells_xtra.v"}.get(vendor)
    commands = [f"read_verilog -lib +/{vendor}/{boxes}"] if boxes else []
    commands += [f"read_verilog -lib -specify -nooverwrite +/{vendor}/cells_sim.v"]
    commands += ["read_verilog cells.v", "hierarchy -top top", "select A:top"]
    run([*commands, "write_json -selected cells.json"], workdir=folder, name="cells")


def translate(folder: Path, vendor: str) -> str:
    """The Verilog that the models make of cells.v."""
    library(folder, vendor)
    return mapped_verilog.load(folder / "cells.json", "top", NO_NAMES).verilog


def prove(folder: Path, vendor: str, how: str) -> None:
    """InputError unless cells.v and models.v are the same circuit."""
    plain = ["proc", "flatten", "async2sync", "dffunmap", "memory -nordff", "opt_clean"]
    commands = [
        f"read_verilog -nooverwrite +/{vendor}/cells_sim.v",
        "read_verilog cells.v",
        "hierarchy -top top",
        *plain,
        "design -stash gold",
        "read_verilog models.v",
        "hierarchy -top top",
        *plain,
        "design -stash gate",
        "design -copy-from gold -as gold top",
        "design -copy-from gate -as gate top",
        "miter -equiv -flatten gold gate miter",
        "hierarchy -top miter",
        f"sat -verify -prove trigger 0 {how} miter",
    ]
    run(commands, workdir=folder, name="prove")


@pytest.mark.parametrize("name", CASES)
def test_models_are_those_of_the_vendor(tmp_path, name):
    vendor, body, width, how = CASES[name]
    write(tmp_path, body, width)
    (tmp_path / "models.v").write_text(translate(tmp_path, vendor))

    prove(tmp_path, vendor, how)


def test_the_proof_sees_a_wrong_model(tmp_path):
    write(tmp_path, ECP5, 14)
    text = translate(tmp_path, "ecp5")
    (tmp_path / "models.v").write_text(text.replace("16'h6a3c", "16'h6a3d"))

    with pytest.raises(InputError):
        prove(tmp_path, "ecp5", DEEPER)


@pytest.mark.parametrize("sign", [0, 1])
def test_multiplier_without_registers_is_the_product(tmp_path, sign):
    pins = "".join(
        f".{side}{i}({f'x[{first + min(i, 4)}]' if sign or i < 5 else 0}), "
        for side, first in (("A", 0), ("B", 5))
        for i in range(18)
    )
    outs = ", ".join(f".P{i}(y[{i}])" for i in range(36))
    write(tmp_path, f"MULT18X18D m ({pins}.SIGNEDA({sign}), .SIGNEDB({sign}), {outs});\n", 36)
    text = translate(tmp_path, "ecp5")
    operand = "$signed" if sign else "$unsigned"
    (tmp_path / "models.v").write_text(text)
    product = f"wire {'signed ' * sign}[35:0] p = {operand}(x[4:0]) * {operand}(x[9:5]);"
    write(tmp_path, f"{product} assign y = p;\n", 36)

    prove(tmp_path, "ecp5", "-seq 1")


REFUSED = {
    "BRAM": ("ecp5", "DP16KD m (.CLKA(clk), .DOA0(y[0]));", r"m \(DP16KD\): no model"),
    "DSP48": ("xilinx", "DSP48E1 m (.CLK(clk), .P(y));", r"m \(DSP48E1\): no model"),
    "SRL": ("xilinx", "SRL16E m (.CLK(clk), .D(x[0]), .Q(y[0]));", r"m \(SRL16E\): no model"),
    "negedge": ("ice40", "SB_DFFN m (.C(clk), .D(x[0]), .Q(y[0]));", "falling edge"),
    "registered": (
        "ecp5",
        'MULT18X18D #(.REG_OUTPUT_CLK("CLK0")) m (.CLK0(clk), .P0(y[0]));',
        "REG_OUTPUT_CLK is CLK0",
    ),
    "latch": ("gowin", "DL m (.CLK(clk), .D(x[0]), .Q(y[0]));", r"m \(DL\): no model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_cell_without_a_model_is_named(tmp_path, name):
    vendor, body, message = REFUSED[name]
    write(tmp_path, body, 48)
    library(tmp_path, vendor)

    with pytest.raises(InputError, match=message):
        mapped_verilog.load(tmp_path / "cells.json", "top", NO_NAMES)


def test_an_input_that_nothing_drives_is_an_error(tmp_path):
    write(tmp_path, "INV m (.I(x[0]), .O(y[0]));", 1)
    library(tmp_path, "xilinx")
    netlist = json.loads((tmp_path / "cells.json").read_text())
    netlist["modules"]["top"]["cells"]["m"]["connections"]["I"] = [999]
    (tmp_path / "cells.json").write_text(json.dumps(netlist))

    with pytest.raises(InputError, match=r"cell m \(INV\): nothing drives I"):
        mapped_verilog.load(tmp_path / "cells.json", "top", NO_NAMES)
