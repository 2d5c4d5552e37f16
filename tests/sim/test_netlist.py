"""The cut netlist is a pure function with one input and output per register."""

import pytest

from tercet.quant.errors import InputError
from tercet.sim import netlist

pytest.importorskip("pyosys")

DESIGN = """
module top(input clk, input rst, input we, input [69:0] x, output [69:0] q, output [7:0] r);
  reg [69:0] wide;
  reg [2:0] count = 5;
  reg flag;
  reg [7:0] ram [0:4];
  initial ram[1] = 8'h5a;
  assign q = wide;
  assign r = ram[count] ^ {8{flag}};
  always @(posedge clk) if (we) wide <= x;
  always @(posedge clk) if (rst) count <= 0; else if (we) count <= count + 1;
  always @(posedge clk or negedge rst) if (!rst) flag <= 1; else flag <= x[0];
  always @(posedge clk) begin
    if (we) ram[count] <= x[7:0];
    if (x[8]) ram[0] <= 0;
  end
endmodule
"""


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    path = tmp_path_factory.mktemp("netlist") / "design.v"
    path.write_text(DESIGN)
    return netlist.cut(path, "top")


def test_every_register_has_a_state_input_and_a_next_state_output(cut):
    assert sorted(row["width"] for row in cut.registers) == [1, 3, 70]
    for row in cut.registers:
        bits = f"[{row['width'] - 1}:0] " if row["width"] > 1 else ""
        assert f"input {bits}tercet_ff_{row['n']};" in cut.verilog
        assert f"output {bits}tercet_nx_{row['n']};" in cut.verilog
    assert "posedge" not in cut.verilog


def test_initial_values_are_in_the_table(cut):
    assert {row["width"]: row["init"] for row in cut.registers} == {70: 0, 3: 5, 1: 0}


def test_write_ports_become_outputs_and_keep_their_order(cut):
    row = {"name": "ram", "path": ["ram"], "array": "tercet_ram_0"}
    assert cut.memories == [row | {"width": 8, "depth": 5, "offset": 0}]
    assert [row["memory"] for row in cut.writes] == ["tercet_ram_0"] * 2
    assert "reg [7:0] tercet_ram_0 [4:0];" in cut.verilog
    assert "output [7:0] tercet_we_1;" in cut.verilog


def test_a_failure_of_yosys_is_one_line(tmp_path):
    path = tmp_path / "bad.v"
    path.write_text("module top(input a\n")

    with pytest.raises(InputError, match=r"bad\.v: Yosys failed") as caught:
        netlist.cut(path, "top")
    assert "\n" not in str(caught.value)


def test_nothing_is_printed(cut, capfd, tmp_path):
    path = tmp_path / "design.v"
    path.write_text(DESIGN)
    netlist.canonical(path, "top")

    assert capfd.readouterr() == ("", "")
