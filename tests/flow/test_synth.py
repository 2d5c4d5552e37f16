"""`synth` on a small build directory: counts, the file it leaves, claims that fail."""

import hashlib
import json

import pytest

from tercet.flow import synth, targets
from tercet.quant.errors import ClaimError, InputError

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


def make_directory(folder, *, keep="(* keep_hierarchy *)", target="ecp5-25k"):
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


def test_counts_replicas_and_estimate_are_reported_and_kept(tmp_path):
    result = synth.synth(make_directory(tmp_path))

    assert result == json.loads((tmp_path / "synth_ecp5-25k.json").read_text())
    assert (result["target"], result["ffs"], result["dsps"], result["brams"]) == (
        "ecp5-25k",
        12 + 16,
        1,
        0,
    )
    cells = result["cells"]
    assert result["luts"] == cells["LUT4"] + 2 * cells.get("CCU2C", 0)
    assert (result["replicas"]["expected"], result["replicas"]["found"]) == (4, 4)
    assert result["estimate"] == ESTIMATE
    assert (result["fmax_mhz"], result["seeds"], result["bitstream"]) == (None, [], None)


def test_place_and_route_adds_the_clock_and_the_bitstream(tmp_path):
    result = synth.synth(make_directory(tmp_path), pnr=True, seeds=(7,), frequency_mhz=50)

    assert result["fmax_mhz"] > 50
    assert result["seeds"] == [{"seed": 7, "fmax_mhz": result["fmax_mhz"]}]
    assert (tmp_path / result["bitstream"]).is_file()


def test_a_clock_that_is_not_reached_is_a_failed_claim(tmp_path):
    with pytest.raises(ClaimError, match=r"timing: the median clock is \d+\.\d MHz, asked for 999"):
        synth.synth(make_directory(tmp_path), pnr=True, seeds=(1,), frequency_mhz=999)

    assert json.loads((tmp_path / "synth_ecp5-25k.json").read_text())["fmax_mhz"] > 0


def test_another_target_has_no_estimate(tmp_path):
    result = synth.synth(make_directory(tmp_path), target="ice40-hx8k")

    assert (result["target"], result["dsps"], result["estimate"]) == ("ice40-hx8k", 0, None)


def test_lost_replicas_are_a_failed_claim_and_the_counts_are_kept(tmp_path):
    with pytest.raises(ClaimError, match=r"0 of 4 voter bits .* voter_0: .*two replicas are one"):
        synth.synth(make_directory(tmp_path, keep=""))

    result = json.loads((tmp_path / "synth_ecp5-25k.json").read_text())
    assert result["replicas"]["found"] == 0


def test_a_changed_design_is_refused(tmp_path):
    make_directory(tmp_path)
    with (tmp_path / "top.v").open("a") as file:
        file.write("// edited\n")

    with pytest.raises(InputError, match="not the design that"):
        synth.synth(tmp_path)


def test_place_and_route_is_for_ecp5(tmp_path):
    with pytest.raises(InputError, match="--pnr works for ecp5 targets only, not for xc7a35t"):
        synth.synth(make_directory(tmp_path, target="xc7a35t"), pnr=True)


def test_a_top_that_is_no_name_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a Verilog identifier"):
        synth.synthesize(
            tmp_path / "top.v", "top; shell ls", targets.find("ecp5-25k"), workdir=tmp_path
        )


def test_a_file_is_replaced_as_a_whole(tmp_path):
    synth.write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        synth.write_json(tmp_path / "x.json", {"a": object()})

    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
