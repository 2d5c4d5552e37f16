"""Redundancy is traced in mapped netlists: good triples pass, merged ones fail."""

import pytest

from tercet.flow import redundancy, synth, targets
from tercet.flow.netlist import Netlist
from tercet.quant.errors import InputError
from tercet.sim.manifest import Voter

VOTER = """
(* keep_hierarchy *)
module voter(input [3:0] a, input [3:0] b, input [3:0] c, output [3:0] y);
  assign y = (a & b) | (a & c) | (b & c);
endmodule
"""
COUNTER = """
module replica(input clk, input rst, input en, input [3:0] v, output reg [3:0] q);
  always @(posedge clk) if (rst) q <= 4'h5; else q <= en ? v + 4'd1 : v;
endmodule
module lane(input clk, input rst, input en, output [3:0] y);
  wire [3:0] a, b, c;
  replica r0(clk, rst, en, y, a);
  replica r1(clk, rst, en, y, b);
  replica r2(clk, rst, en, y, c);
  voter voter_0(a, b, c, y);
endmodule
"""
REGISTERS = """
(* keep_hierarchy *)
module replica(input clk, input [3:0] d, output reg [3:0] q);
  always @(posedge clk) q <= d;
endmodule
module lane(input clk, input rst, input en, output [3:0] y);
  wire [3:0] a, b, c, d0 = DATA, d1 = DATA, d2 = DATA;
  replica r0(clk, D0, a);
  replica r1(clk, D1, b);
  replica r2(clk, D2, c);
  voter voter_0(a, b, c, y);
endmodule
"""
TOP = """
module top(input clk, input rst, input en, input x, output [3:0] y);
  lane lane_0(clk, rst, CONTROL, y);
endmodule
"""
FAMILIES = ["ecp5-25k", "ice40-hx8k", "gw1n-9", "xc7a35t"]
REPLICAS = ("lane_0.r0", "lane_0.r1", "lane_0.r2")


def check(tmp_path, lane, *, target="ecp5-25k", control="en", voter=VOTER, replicas=REPLICAS):
    """Map the lane inside a top module and trace its voter."""
    source = tmp_path / "top.v"
    source.write_text(voter + lane + TOP.replace("CONTROL", control))
    device = targets.find(target)
    work = tmp_path / "work"
    mapped = synth.synthesize(source, "top", device, workdir=work)
    voters = [Voter("lane_0.voter_0", "lane_0", 0, replicas, 4)]
    reference = redundancy.elaborate("design.v", "top", workdir=work)
    netlist = Netlist.load(work / "mapped.json", "top")
    return mapped, redundancy.check(netlist, voters, reference, device.family)


def registers(data, ports=("d0", "d1", "d2")):
    """Three kept registers whose next value is computed outside them."""
    lane = REGISTERS.replace("DATA", data)
    for index, port in enumerate(ports):
        lane = lane.replace(f"D{index}", port)
    return lane


def three_bits():
    """Kept replicas whose top bit is always zero."""
    lane = "(* keep_hierarchy *)" + COUNTER.replace("4'h5", "4'h0")
    return lane.replace("v + 4'd1 : v", "{1'b0, v[2:0] + 3'd1} : {1'b0, v[2:0]}")


@pytest.mark.parametrize("target", FAMILIES)
def test_kept_replicas_are_found(tmp_path, target):
    mapped, result = check(tmp_path, "(* keep_hierarchy *)" + COUNTER, target=target)

    assert mapped["ffs"] == 12
    assert (result["expected"], result["found"], result["constant"]) == (4, 4, 0)
    assert result["voters"][0]["problems"] == []
    assert result["voters"][0]["fanout"] == ["clk", "en", "rst", "v"]


@pytest.mark.parametrize("target", FAMILIES)
def test_merged_incrementers_fail_although_all_flip_flops_are_there(tmp_path, target):
    mapped, result = check(tmp_path, registers("en ? y + 4'd1 : y"), target=target)

    assert mapped["ffs"] == 12
    assert (result["expected"], result["found"]) == (4, 0)
    assert "merged the replicas' signals d" in result["voters"][0]["problems"][0]


@pytest.mark.parametrize("target", ["ecp5-25k", "ice40-hx8k"])
def test_merged_replicas_fail(tmp_path, target):
    mapped, result = check(tmp_path, COUNTER, target=target)

    assert mapped["ffs"] == 4
    assert (result["expected"], result["found"]) == (4, 0)
    assert any("two replicas are one" in text for text in result["voters"][0]["problems"])


def test_one_signal_in_the_verilog_is_a_fan_out_point(tmp_path):
    _, result = check(tmp_path, registers("en ? y + 4'd1 : y", ("d0", "d0", "d0")))

    assert result["found"] == 4
    assert result["voters"][0]["fanout"] == ["clk", "d"]


def test_shared_logic_outside_the_replicas_fails(tmp_path):
    """Two signals in the Verilog that one adder feeds: not a fan-out point, not merged."""
    lane = registers("en ? y + 4'd1 : y", ("d0", "d0 ^ {4{rst}}", "d2"))

    _, result = check(tmp_path, lane)

    assert result["found"] == 0
    assert any("share" in text for text in result["voters"][0]["problems"])


def test_a_bit_that_is_constant_in_the_verilog_is_listed_not_expected(tmp_path):
    _, result = check(tmp_path, three_bits())

    assert (result["expected"], result["found"], result["constant"]) == (3, 3, 1)
    assert result["voters"][0]["constant"] == [3]


def test_a_constant_that_the_verilog_does_not_have_fails(tmp_path):
    """The reference of another design stands for a netlist that lost a bit."""
    check(tmp_path, three_bits())
    netlist = Netlist.load(tmp_path / "work" / "mapped.json", "top")
    (tmp_path / "work" / "design.v").write_text(VOTER + COUNTER + TOP.replace("CONTROL", "en"))
    reference = redundancy.elaborate("design.v", "top", workdir=tmp_path / "work")
    voters = [Voter("lane_0.voter_0", "lane_0", 0, REPLICAS, 4)]

    result = redundancy.check(netlist, voters, reference, targets.find("ecp5-25k").family)

    assert (result["expected"], result["found"]) == (4, 3)
    assert "constant in the netlist" in result["voters"][0]["problems"][0]


def test_a_voter_that_ignores_a_replica_fails(tmp_path):
    voter = VOTER.replace("(a & b) | (a & c) | (b & c)", "a | (b & c & 4'h7)")

    _, result = check(tmp_path, "(* keep_hierarchy *)" + COUNTER, voter=voter)

    assert (result["expected"], result["found"]) == (4, 3)
    assert "bit 3: the voter's output" in result["voters"][0]["problems"][0]


def test_a_signal_that_optimisation_made_a_fan_out_point_is_not_merged(tmp_path):
    """Each replica's own table lookup turns out to be `en` itself."""
    lane = ("(* keep_hierarchy *)" + COUNTER).replace(
        "always", "wire bias; assign bias = en ? 1'b1 : 1'b0; always"
    )

    _, result = check(tmp_path, lane.replace("en ? v + 4'd1", "bias ? v + 4'd1"))

    assert result["found"] == 4
    assert result["voters"][0]["fanout"] == ["clk", "en", "rst", "v"]


def test_replicas_that_are_logic_fail(tmp_path):
    lane = ("(* keep_hierarchy *)" + COUNTER).replace("output reg [3:0] q", "output [3:0] q")
    lane = lane.replace("always", "reg [3:0] r; assign q = r ^ {4{en}} ^ v; always")
    lane = lane.replace("q <=", "r <=")

    _, result = check(tmp_path, lane)

    assert result["found"] == 0
    assert "a replica is logic" in result["voters"][0]["problems"][0]


def test_a_voter_that_is_not_there_is_not_found(tmp_path):
    lane = ("(* keep_hierarchy *)" + COUNTER).replace("voter_0(", "other(")

    _, result = check(tmp_path, lane)

    assert (result["expected"], result["found"]) == (4, 0)
    assert "no voter of 4 bits" in result["voters"][0]["problems"][0]


def test_two_replicas_are_not_three(tmp_path):
    _, result = check(tmp_path, "(* keep_hierarchy *)" + COUNTER, replicas=REPLICAS[:2])

    assert result["found"] == 0
    assert "has 2 replicas" in result["voters"][0]["problems"][0]


def test_bad_verilog_is_one_line(tmp_path):
    (tmp_path / "bad.v").write_text("module top(input a; endmodule\n")

    with pytest.raises(InputError, match=r"Yosys: design\.v:1: syntax error") as error:
        synth.synthesize(tmp_path / "bad.v", "top", targets.find("xc7a35t"), workdir=tmp_path / "w")
    assert "\n" not in str(error.value)


THREE = """
module lane(input clk, input rst, input en, output [3:0] y);
  wire [3:0] a, b, c, y1, y2;
  replica r0(clk, rst, en, y, a);
  replica r1(clk, rst, en, V1, b);
  replica r2(clk, rst, en, V2, c);
  voter voter_0(a, b, c, y);
  voter voter_1(a, b, c, y1);
  voter voter_2(a, b, c, y2);
endmodule
"""


def check_three(tmp_path, lane, voter=VOTER):
    """As `check`, for a lane with three voters."""
    source = tmp_path / "top.v"
    module = "(* keep_hierarchy *)" + COUNTER[: COUNTER.index("module lane")]
    source.write_text(voter + module + lane + TOP.replace("CONTROL", "en"))
    device, work = targets.find("ecp5-25k"), tmp_path / "work"
    synth.synthesize(source, "top", device, workdir=work)
    voters = [Voter(f"lane_0.voter_{n}", "lane_0", 0, REPLICAS, 4) for n in range(3)]
    reference = redundancy.elaborate("design.v", "top", workdir=work)
    return redundancy.check(
        Netlist.load(work / "mapped.json", "top"), voters, reference, device.family
    )


def test_three_voters_that_each_feed_a_replica_are_found(tmp_path):
    result = check_three(tmp_path, THREE.replace("V1", "y1").replace("V2", "y2"))

    assert (result["expected"], result["found"]) == (12, 12)


@pytest.mark.parametrize(("one", "two"), [("y1", "y1"), ("y", "y2"), ("y", "y")])
def test_replicas_that_reload_one_voter_fail(tmp_path, one, two):
    result = check_three(tmp_path, THREE.replace("V1", one).replace("V2", two))

    assert (result["expected"], result["found"]) == (12, 0)
    assert "reload the value of one voter" in result["voters"][0]["problems"][0]


def test_three_voters_that_synthesis_merged_fail(tmp_path):
    lane = THREE.replace("V1", "y1").replace("V2", "y2")

    result = check_three(tmp_path, lane, VOTER.replace("(* keep_hierarchy *)", ""))

    assert result["found"] == 0
