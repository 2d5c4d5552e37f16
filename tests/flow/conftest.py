"""A build directory with one triplicated counter, as far as synthesis looks."""

import hashlib
import json

import pytest

from tercet.quant import serialize

REPLICA = """
module replica(input clk, input rst, input [3:0] v, output reg [3:0] q);
  always @(posedge clk) if (rst) q <= 0; else q <= v + 4'd1;
endmodule
"""
REST = """
(* keep_hierarchy *)
module voter(input [3:0] a, input [3:0] b, input [3:0] c, output [3:0] y);
  assign y = (a & b) | (a & c) | (b & c);
endmodule
module top(input clk, input rst, input [7:0] i_data, output [3:0] o_data,
           output reg [15:0] product);
  wire [3:0] a, b, c;
  replica r0(clk, rst, o_data, a);
  replica r1(clk, rst, o_data, b);
  replica r2(clk, rst, o_data, c);
  voter voter_0(a, b, c, o_data);
  always @(posedge clk) product <= i_data * i_data;
endmodule
"""
VOTERS = [
    {
        "path": "voter_0",
        "layer": "count",
        "lane": 0,
        "replicas": ["r0", "r1", "r2"],
        "width": 4,
    }
]
ESTIMATE = {"luts": 20, "source": "a test"}


def stream(way):
    names = {part: f"{way}_{part}" for part in ("valid", "ready", "data", "first", "last")}
    layout = {"lanes": 1, "lane_bits": 4, "signed": False, "beats": 1, "shape": [1]}
    return {**names, "err": None, **layout, "permutation": None}


def _make(folder, *, keep="(* keep_hierarchy *)", target="ecp5-25k"):
    """A build directory as `tercet build` leaves it, as far as synthesis looks."""
    verilog = keep + REPLICA + REST
    (folder / "top.v").write_text(verilog)
    manifest = {
        "schema": 1,
        "design": hashlib.sha256(verilog.encode()).hexdigest(),
        "name": "count",
        "target": target,
        "top": "top",
        "verilog": "top.v",
        "clock": "clk",
        "reset": "rst",
        "input": stream("i"),
        "output": stream("o"),
        "taps": [],
        "layers": [],
        "latency_cycles": 1,
        "initiation_interval": 1,
        "last_beat_cycles": [1, 2, 3],
        "sites": {"ff_bits": 0, "registers": []},
        "voters": VOTERS,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "report.json").write_text(json.dumps({"target": target, "estimate": ESTIMATE}))
    return folder


@pytest.fixture(scope="session")
def build_directory():
    """build_directory(folder, *, keep="(* keep_hierarchy *)", target="ecp5-25k") -> folder."""
    return _make


@pytest.fixture(scope="session")
def small(helper):
    """The module tests/flow/small.py: graph(), frames(count), FOLDING."""
    return helper("flow", "small")


@pytest.fixture(scope="module")
def model(small, tmp_path_factory):
    """graph.json of the small network."""
    path = tmp_path_factory.mktemp("model") / "graph.json"
    serialize.save(small.graph(), path)
    return str(path)
