"""Every kind of state is found, counted twice, and followed to what holds it."""

import json

import numpy as np
import pytest

from tercet.quant.errors import ClaimError, InputError
from tercet.sim import netlist, sites, state_cells

pytest.importorskip("pyosys")

# $dff, $dffe, $adff, $adffe, $aldff, $dffsr by behaviour; a RAM, a ROM, a table that is logic.
EVERY_KIND = """
module top(input clk, rst_n, ld, en, input [2:0] s, input [3:0] x, output reg [3:0] a, b,
           output reg c, output reg [7:0] r, k);
  reg [7:0] ram [0:7], rom [0:7];
  integer i;
  initial for (i = 0; i < 8; i = i + 1) rom[i] = i * 31;
  always @(posedge clk or negedge rst_n) if (!rst_n) a <= 5; else if (en) a <= x;
  always @(posedge clk or posedge ld) if (ld) b <= {1'b0, s}; else b <= x;
  always @(posedge clk or negedge rst_n or posedge ld)
    if (!rst_n) c <= 0; else if (ld) c <= 1; else c <= x[0];
  always @(posedge clk) begin if (en) ram[s] <= {x, x}; r <= ram[x[2:0]] ^ rom[s]; end
  always @(posedge clk) case (s)
    0: k <= 1; 1: k <= 23; 2: k <= 45; 3: k <= 99; 4: k <= 7; 5: k <= 55; 6: k <= 66; 7: k <= 11;
  endcase
endmodule
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("kinds") / "design.v"
    path.write_text(EVERY_KIND)
    return netlist.canonical(path, "top")


def test_every_kind_of_flip_flop_is_listed(source):
    kinds = {cell["type"] for cell in state_cells.flip_flops(source.clean).values()}

    assert {"$dff", "$adff", "$aldff", "$dffsr"} <= kinds
    assert {r.name: r.width for r in sites.from_netlist(source)} == {
        "a": 4, "b": 4, "c": 1, "k": 8, "r": 8,
    }  # fmt: skip


def test_read_only_memories_are_sites_and_tables_of_a_case_are_not(source):
    assert sites.memories(source) == [
        sites.MemorySite("ram", 8, 8, True),
        sites.MemorySite("rom", 8, 8, False),
    ]


@pytest.mark.parametrize("what", ["flip_flops", "memories"])
def test_a_gap_in_the_enumeration_is_found(source, monkeypatch, what):
    complete = getattr(state_cells, what)

    def with_a_gap(module):
        found = complete(module)
        found.pop(sorted(found)[0])
        return found

    monkeypatch.setattr(state_cells, what, with_a_gap)

    with pytest.raises(ClaimError, match=r"fault sites: \d+ \S+ bits listed, the netlist has"):
        sites.from_netlist(source)


def test_asynchronous_controls_are_conditions_on_inputs(source):
    cells = state_cells.flip_flops(source.clean)
    found = state_cells.controls(source.clean, cells)
    rst_n, load = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)

    def value(port, bit):
        return {"rst_n": rst_n, "ld": load}[port]

    held = {
        cells[name]["type"]: np.any([state_cells.evaluate(c, value) for c in bits[0]], axis=0)
        for name, bits in found.items()
    }
    assert set(held) == {"$adff", "$aldff", "$dffsr"}
    assert held["$adff"].tolist() == [True, True, False, False]
    assert held["$aldff"].tolist() == [False, True, False, True]
    assert held["$dffsr"].tolist() == [True, True, False, True]


# After opt_dff: $dffe, $sdff, $sdffe, $sdffce, $adffe, $aldffe.
MAPPED = """
module top(input clk, rst, en, input [1:0] d, output reg [1:0] q0, q1, q2, q3, q4, q5);
  always @(posedge clk) if (en) q0 <= d;
  always @(posedge clk) if (rst) q1 <= 0; else q1 <= d;
  always @(posedge clk) if (rst) q2 <= 0; else if (en) q2 <= d;
  always @(posedge clk) if (en) if (rst) q3 <= 0; else q3 <= d;
  always @(posedge clk or posedge rst) if (rst) q4 <= 0; else if (en) q4 <= d;
  always @(posedge clk or posedge rst) if (rst) q5 <= {2{en}}; else if (en) q5 <= d;
endmodule
"""


def test_cells_of_an_optimised_netlist_are_sites(tmp_path):
    from pyosys import libyosys

    (tmp_path / "design.v").write_text(MAPPED)
    design = libyosys.Design()
    for command in (
        f"read_verilog {tmp_path / 'design.v'}",
        "proc",
        "opt_dff",
        f"write_json {tmp_path / 'design.json'}",
    ):
        libyosys.run_pass(f"tee -q {command}", design)
    module = json.loads((tmp_path / "design.json").read_text())["modules"]["top"]

    found = state_cells.flip_flops(module)

    kinds = {"$dffe", "$sdff", "$sdffe", "$sdffce", "$adffe", "$aldffe"}
    assert {cell["type"] for cell in found.values()} == kinds
    assert sum(len(cell["connections"]["Q"]) for cell in found.values()) == 12


def test_a_latch_is_named_with_its_fix(tmp_path):
    path = tmp_path / "design.v"
    path.write_text("module top(input e, d, output reg q); always @* if (e) q = d; endmodule\n")

    with pytest.raises(InputError, match=r"cell \S+ \(\$dlatch\): latch; assign it in every"):
        sites.enumerate(path, "top")
