"""Every flip-flop bit is found, named and given its role, or the enumeration fails."""

import re
from pathlib import Path

import pytest

from tercet.quant.errors import InputError
from tercet.sim import sites

pytest.importorskip("pyosys")

DESIGN = """
module lane(input clk, input rst, input [7:0] x, output [15:0] q);
  (* role = "accumulator", layer = "conv1", lane = "3", replica = "1" *) reg [15:0] acc;
  (* role = "weight", layer = "conv1" *) wire [7:0] weight;
  reg [7:0] rom [0:3];
  reg [7:0] rd;
  (* role = "control" *) reg [1:0] count;
  initial begin rom[0] = 1; rom[1] = 2; rom[2] = 3; rom[3] = 4; count = 0; end
  assign weight = rd;
  assign q = acc;
  always @(posedge clk) begin
    rd <= rom[count];
    acc <= acc + weight * x;
    if (rst) count <= 0; else count <= count + 1;
  end
endmodule

module top(input clk, input rst, input we, input [7:0] x, output [15:0] q, output [7:0] r);
  (* role = "fifo" *) wire [3:0] low;
  (* role = "activation" *) wire [11:0] high;
  reg [15:0] both;
  reg [7:0] ram [0:15];
  (* keep_hierarchy *) lane lane_0(.clk(clk), .rst(rst), .x(x), .q(q));
  assign {high, low} = both;
  assign r = ram[x[3:0]];
  always @(posedge clk) begin
    if (we) both <= q;
    if (we) ram[low] <= high[7:0];
  end
endmodule
"""


def enumerate_text(tmp_path: Path, text: str) -> list[sites.Register]:
    path = tmp_path / "design.v"
    path.write_text(text)
    return sites.enumerate(path, "top")


def one(body: str) -> str:
    """A top module with the usual ports and `body`."""
    return f"module top(input clk, clk2, rst, d, input [3:0] x, output q);\n{body}\nendmodule\n"


def test_registers_carry_name_role_and_place(tmp_path):
    found = {r.name: r for r in enumerate_text(tmp_path, DESIGN)}

    assert {n: (r.width, r.role) for n, r in found.items()} == {
        "high": (12, "activation"),
        "lane_0.acc": (16, "accumulator"),
        "lane_0.count": (2, "control"),
        "lane_0.weight": (8, "weight"),
        "low": (4, "fifo"),
    }
    assert found["lane_0.acc"].to_json() == {
        "name": "lane_0.acc",
        "width": 16,
        "role": "accumulator",
        "layer": "conv1",
        "lane": 3,
        "replica": 1,
    }


def test_a_bit_names_the_variable_that_holds_it(tmp_path):
    found = {r.name: r for r in enumerate_text(tmp_path, DESIGN)}

    assert {bit.path for bit in found["lane_0.weight"].bits} == {("lane_0", "rd")}
    assert [bit.offset for bit in found["high"].bits] == list(range(4, 16))
    assert {bit.path for bit in found["high"].bits + found["low"].bits} == {("both",)}
    assert {"lane_0.acc", "lane_0.q", "q"} <= set(found["lane_0.acc"].aliases)


def test_count_equals_the_statistics_of_yosys(tmp_path):
    registers = enumerate_text(tmp_path, DESIGN)
    from pyosys import libyosys

    design = libyosys.Design()
    report = tmp_path / "stat.txt"
    for command in (
        f"read_verilog {tmp_path / 'design.v'}",
        "hierarchy -check -top top",
        "proc",
        "setattr -mod -unset keep_hierarchy",
        "setattr -unset keep_hierarchy",
        "flatten",
        "opt_clean",
        "memory_nordff",
    ):
        libyosys.run_pass("tee -q " + command, design)
    libyosys.run_pass(f"tee -q -o {report} stat -width", design)
    counts = re.findall(r"^\s+(\d+)\s+\$\w*dff\w*_(\d+)\s*$", report.read_text(), re.MULTILINE)

    assert counts
    assert sum(int(n) * int(width) for n, width in counts) == sum(r.width for r in registers)


def test_memories_are_sites_of_their_own(tmp_path):
    path = tmp_path / "design.v"
    path.write_text(DESIGN)

    assert sites.enumerate_memories(path, "top") == [
        sites.MemorySite("lane_0.rom", 8, 4, False),
        sites.MemorySite("ram", 8, 16, True),
    ]


def test_an_unused_register_is_no_site_and_no_register_is_merged(tmp_path):
    text = one(
        "reg a, b, unused; assign q = a ^ b;"
        "always @(posedge clk) begin a <= d; b <= d; unused <= d; end"
    )

    assert [r.name for r in enumerate_text(tmp_path, text)] == ["a", "b"]


def test_a_register_with_asynchronous_reset_port_is_accepted(tmp_path):
    text = one(
        "reg a; assign q = a; always @(posedge clk or posedge rst) if (rst) a <= 0; else a <= d;"
    )

    assert [(r.name, r.role, r.width) for r in enumerate_text(tmp_path, text)] == [("a", None, 1)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("reg a; assign q = a; always @* if (rst) a = d;", "holds state"),
        ("reg a; assign q = a; always @(negedge clk) a <= d;", "falling edge"),
        ("reg a; assign q = a; wire g = clk & d; always @(posedge g) a <= d;", "no input"),
        (
            (
                "reg a, b; assign q = a ^ b;"
                "always @(posedge clk) a <= d; always @(posedge clk2) b <= d;"
            ),
            "second clock",
        ),
        (
            (
                "reg a; assign q = a; wire z = d & a;"
                "always @(posedge clk or posedge z) if (z) a <= 0; else a <= d;"
            ),
            "asynchronous reset",
        ),
        ('(* lane = "x" *) reg a; assign q = a; always @(posedge clk) a <= d;', "decimal"),
        ("missing m(.a(d), .q(q));", "Yosys failed"),
        ("this is not Verilog", "Yosys failed"),
    ],
)
def test_what_is_not_supported_is_one_clear_error(tmp_path, body, message):
    with pytest.raises(InputError, match=message) as caught:
        enumerate_text(tmp_path, one(body))

    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such Verilog file"):
        sites.enumerate(tmp_path / "none.v", "top")
