"""Campaigns on a mapped netlist: its flip-flops, its configuration, its redundancy."""

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from tercet.flow.mapped_netlist import map_design
from tercet.quant.errors import ClaimError, InputError
from tercet.sim import native_model, steady
from tercet.sim.engines import native
from tercet.sim.faults import Faults
from tercet.sim.mapped import MappedTestbed
from tercet.sim.outcomes import Outcome
from tercet.sim.targets import Targets

VOTED = """
(* keep_hierarchy *)
module replica(input clk, input [7:0] d, output reg [7:0] q);
  always @(posedge clk) q <= d;
endmodule
(* keep_hierarchy *)
module voter(input [7:0] a, input [7:0] b, input [7:0] c, output [7:0] y);
  assign y = (a & b) | (a & c) | (b & c);
endmodule
module top(input clk, input rst, input i_valid, output i_ready, input [7:0] i_data, input i_first,
           input i_last, output o_valid, input o_ready, output [7:0] o_data, output o_first,
           output o_last, output o_err);
  reg [7:0] x;
  reg [2:0] one, two;
  wire [7:0] voted_0, voted_1, voted_2;
  replica r0(clk, x, voted_0);
  replica r1(clk, x, voted_1);
  replica r2(clk, x, voted_2);
  voter vote(voted_0, voted_1, voted_2, o_data);
  assign {o_valid, o_first, o_last} = two;
  assign i_ready = 1, o_err = 0;
  always @(posedge clk) begin
    x <= i_data ^ {i_data[6:0], 1'b1};
    one <= rst ? 3'd0 : {i_valid, i_first, i_last};
    two <= rst ? 3'd0 : one;
  end
endmodule
"""


@pytest.fixture
def netlist(small_dir):
    """The hand-written network mapped for ECP5, as a directory."""
    return map_design(small_dir, target="ecp5-25k")[0]


@pytest.fixture
def testbed(netlist):
    return MappedTestbed.open(netlist, inputs=8)


def draw(testbed, first, count, number, seed=0):
    """Single upsets of targets first..first + count - 1 in the window."""
    rng = np.random.default_rng(seed)
    cycles = rng.integers(*testbed.window, number)
    return Faults.single(cycles, rng.integers(first, first + count, number))


def shown(outcome):
    """Outcomes; masked and latent differ in no output and are one."""
    return np.where(outcome == Outcome.LATENT, Outcome.MASKED, outcome)


def test_registers_keep_name_role_layer_and_lane(testbed):
    found = {register.name: register for register in testbed.registers}

    assert found["fc1.acc"].role == "accumulator"
    assert (found["fc2.acc_1"].layer, found["fc2.acc_1"].lane) == ("fc2", 1)
    assert sum(register.width for register in testbed.registers) == testbed.space.ff_bits
    assert testbed.origin["netlist"]["ffs"] == testbed.space.ff_bits


def test_tables_are_sites_of_their_layer(testbed):
    targets = Targets(testbed)
    bits = targets.choose("config", layers=("fc1",))
    site = targets.sites[targets.owner[bits[0]]]

    assert (site.role, site.layer, len(site.targets)) == ("lut", "fc1", 16)
    assert bits.min() >= testbed.space.first_config
    assert len(targets.choose("config")) == testbed.luts.bits


def test_upsets_of_mapped_flip_flops_agree_with_cocotb(testbed):
    faults = draw(testbed, 0, testbed.space.ff_bits, 60)

    fast, slow = (testbed.run(engine, faults).outcome for engine in ("native", "cocotb"))

    assert shown(fast).tolist() == shown(slow).tolist()
    assert len(set(shown(fast).tolist())) > 1


def test_configuration_upsets_agree_with_tables_written_in_cocotb(testbed):
    faults = draw(testbed, testbed.space.first_config, testbed.luts.bits, 60)

    fast, slow = (testbed.run(engine, faults).outcome for engine in ("native", "cocotb"))

    assert shown(fast).tolist() == shown(slow).tolist()
    assert (fast >= Outcome.SDC_TOLERABLE).any()


def test_configuration_upsets_agree_in_bit_parallel_lanes(testbed):
    faults = draw(testbed, testbed.space.first_config, testbed.luts.bits, 2000)

    lanes, single = (testbed.run(engine, faults).outcome for engine in ("bitparallel", "native"))

    assert lanes.tolist() == single.tolist()


def test_a_configuration_upset_stays_and_so_is_never_masked(testbed):
    faults = draw(testbed, testbed.space.first_config, testbed.luts.bits, 500)
    verdicts = testbed.run("native", faults)

    assert not (verdicts.outcome == Outcome.MASKED).any()
    assert (verdicts.inferences == -1).all()


def test_bits_behind_constant_inputs_never_show(testbed):
    dead = np.flatnonzero(~testbed.luts.reachable)
    bits = np.random.default_rng(0).choice(dead, 300)
    cycles = np.random.default_rng(1).integers(*testbed.window, len(bits))
    faults = Faults.single(cycles, testbed.space.first_config + bits)

    assert set(testbed.run("native", faults).outcome.tolist()) == {Outcome.LATENT}


def test_a_critical_bit_spoils_the_run_when_it_is_written_into_the_netlist(testbed, tmp_path):
    faults = draw(testbed, testbed.space.first_config, testbed.luts.bits, 300)
    critical = np.flatnonzero(testbed.run("native", faults).outcome == Outcome.SDC_CRITICAL)
    bit = faults.target[critical[:1]] - testbed.space.first_config
    table, minterm = (int(value[0]) for value in testbed.luts.locate(bit))
    found = testbed.prepared.model.manifest
    pattern = rf"(/\*T{table}\*/\d+'h)([0-9a-f]+)"
    path = tmp_path / "written.v"
    path.write_text(
        re.sub(
            pattern, lambda m: f"{m[1]}{int(m[2], 16) ^ 1 << minterm:x}", found.verilog.read_text()
        )
    )
    model = native_model.build(replace(found, verilog=path))

    try:
        words = native.golden(model, testbed.prepared.stimulus).words
    except ClaimError:
        return  # it does not even deliver its frames
    assert not np.array_equal(words, testbed.prepared.golden.words)


def test_configuration_upsets_come_alone(testbed):
    both = Faults.flips(
        np.array([testbed.window[0]]),
        np.array([0, 2]),
        np.array([0, testbed.space.first_config]),
    )

    with pytest.raises(InputError, match="come alone"):
        testbed.run("native", both)


def test_a_voted_register_masks_upsets_of_the_mapped_netlist(stateful_dir):
    made = json.loads((stateful_dir / "manifest.json").read_text())
    one = {"lanes": 1, "lane_bits": 8, "beats": 4, "shape": [4], "signed": False}
    made |= {"design": hashlib.sha256(VOTED.encode()).hexdigest(), "latency_cycles": 6}
    made |= {"initiation_interval": 4, "last_beat_cycles": [6, 10, 14]}
    made |= {"input": made["input"] | one, "output": made["output"] | one}
    (stateful_dir / "manifest.json").write_text(json.dumps(made))
    (stateful_dir / "top.v").write_text(VOTED)
    folder, report = map_design(stateful_dir, target="ecp5-25k")
    testbed = MappedTestbed.open(folder, inputs=8)
    bits = {
        register.name: [testbed.numbers[bit.cell, bit.index] for bit in register.bits]
        for register in testbed.registers
    }
    voted = np.array([*bits["r0.q"], *bits["r1.q"], *bits["r2.q"]])
    start, stop = testbed.window
    cycles = np.arange(start, stop)

    def worst(targets):
        faults = Faults.single(np.repeat(cycles, len(targets)), np.tile(targets, len(cycles)))
        return testbed.run("native", faults).outcome

    assert report["registers"]["kept"] == len(voted) + 8 + 6
    assert set(worst(voted).tolist()) == {Outcome.MASKED}
    assert (worst(np.array(bits["x"])) >= Outcome.SDC_TOLERABLE).all()


def test_an_edited_netlist_is_refused(netlist):
    with (netlist / "mapped.v").open("a") as file:
        file.write("// edited\n")

    with pytest.raises(InputError, match="has hash"):
        MappedTestbed.open(netlist)


def test_a_directory_that_is_no_netlist_is_refused(small_dir):
    with pytest.raises(InputError, match="not a mapped netlist"):
        MappedTestbed(steady.prepare(small_dir, None, 2, 0), {})


def test_broken_tables_are_refused(netlist):
    (netlist / "luts.json").write_text("[{}]")

    with pytest.raises(InputError, match=r"luts\.json: not the tables of a netlist"):
        MappedTestbed.open(netlist)
