"""Control registers in triplicate survive synthesis for every family; merged ones are noticed."""

import numpy as np
import pytest

from tercet.flow import emit, redundancy, synth, targets
from tercet.flow.netlist import Netlist
from tercet.flow.yosys import run
from tercet.hw.configure import Fold, Protection, configure
from tercet.quant import ir
from tercet.sim.manifest import Voter

FAMILIES = ["ecp5-25k", "ice40-hx8k", "gw1n-9", "xc7a35t"]
FOLDING = {"conv": Fold(1, 2), "pool": Fold(1), "fc": Fold(1, 1)}
MERGE = (
    "read_verilog -sv top.v",
    "hierarchy -check -top top",
    "setattr -mod -unset keep_hierarchy",
    "proc",
    "flatten",
    "opt_merge",
    "opt_clean",
    "write_verilog -noattr merged.v",
)


def design(workdir, **protection):
    """A convolution, a pool and a dense layer with control in triplicate, and its voters."""
    rng = np.random.default_rng(0)
    scale = ir.Requantize(np.array([1]), np.array([2]), ir.TensorType(2, False))
    nodes = (
        ir.Conv2d(
            name="conv", inputs=("x",), weight=rng.integers(-2, 2, (2, 2, 2, 1)),
            bias=np.array([1, 2]), weight_bits=2, requantize=scale,
        ),
        ir.MaxPool(name="pool", inputs=("conv",), kernel=(2, 2), stride=(2, 2)),
        ir.Flatten(name="flat", inputs=("pool",)),
        ir.Dense(
            name="fc", inputs=("flat",), weight=rng.integers(-2, 2, (2, 2)),
            bias=np.array([0, 1]), weight_bits=2,
        ),
    )  # fmt: skip
    graph = ir.Graph("g", "x", (3, 3, 1), ir.TensorType(2, False), nodes, "fc")
    guards = {
        name: Protection(control="tmr", **protection if name != "pool" else {}) for name in FOLDING
    }
    layers = configure(graph, FOLDING, guards)
    verilog = emit.emit(layers, workdir)
    rows = emit.voters(layers, verilog.read_text())
    voters = [
        Voter(r["path"], r["layer"], r["lane"], tuple(r["replicas"]), r["width"]) for r in rows
    ]
    return verilog, voters


def trace(source, original, voters, target, workdir):
    """The voters of `original` in the netlist that synthesis makes of `source`."""
    device = targets.find(target)
    mapped = synth.synthesize(source, "top", device, workdir=workdir)
    (workdir / "original.v").write_text(original.read_text())
    reference = redundancy.elaborate("original.v", "top", workdir=workdir)
    netlist = Netlist.load(workdir / "mapped.json", "top")
    return mapped, redundancy.check(netlist, voters, reference, device.family)


@pytest.mark.slow
@pytest.mark.parametrize("target", FAMILIES)
def test_control_in_triplicate_is_found_and_its_merging_noticed(tmp_path, target):
    verilog, voters = design(tmp_path)
    run(MERGE, workdir=tmp_path, name="merge")

    mapped, result = trace(verilog, verilog, voters, target, tmp_path / "kept")
    less, merged = trace(tmp_path / "merged.v", verilog, voters, target, tmp_path / "merged")

    width = sum(voter.width for voter in voters)
    assert width > 60
    assert result["found"] == result["expected"] == width - result["constant"]
    assert result["constant"] < width / 4
    assert mapped["ffs"] - less["ffs"] > 1.5 * result["expected"]
    assert merged["found"] == 0
    assert all(row["problems"] for row in merged["voters"] if row["expected"])


def test_every_voter_of_the_verilog_is_traced(tmp_path):
    verilog, voters = design(tmp_path)
    parts = {"sequencer", "window", "fifo"}

    lines = verilog.read_text().splitlines()

    assert sum(line.endswith(" control_voter (") for line in lines) == len(voters) > 6
    assert FOLDING.keys() == {voter.layer for voter in voters}
    for layer in FOLDING:
        assert {f"{layer}.{part}.control_voter" for part in parts} <= {v.path for v in voters}


def test_triplicated_lanes_read_one_corrected_element(tmp_path):
    verilog, voters = design(tmp_path, neurons=(0, 1), stream="secded")

    _, result = trace(verilog, verilog, voters, "ecp5-25k", tmp_path / "kept")

    lanes = [row for row in result["voters"] if row["path"] in ("conv.voter_0", "fc.voter_0")]
    assert len(lanes) == 2
    assert [row["problems"] for row in lanes] == [[], []]
    assert result["found"] == result["expected"]
