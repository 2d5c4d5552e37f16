"""Place and route on a small ECP5 design; it takes seconds, WebAssembly included."""

import shutil

import pytest

from tercet.flow import pnr, synth, targets
from tercet.quant.errors import ClaimError, InputError

COUNTER = """
module top(input clk, input rst, output reg [15:0] q);
  always @(posedge clk) q <= rst ? 0 : q + 1;
endmodule
"""
ECP5 = targets.find("ecp5-25k")


@pytest.fixture(scope="module")
def netlist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counter")
    (folder / "top.v").write_text(COUNTER)
    synth.synthesize(folder / "top.v", "top", ECP5, workdir=folder / "work")
    return folder / "work" / "mapped.json"


def test_two_seeds_give_the_lower_clock_and_a_bitstream(netlist):
    routed = pnr.place_and_route(netlist, ECP5, clock="clk", seeds=(1, 2), frequency_mhz=100)

    rates = [run.fmax_mhz for run in routed.runs]
    assert [run.seed for run in routed.runs] == [1, 2]
    assert routed.fmax_mhz == min(rates) > 100
    assert all(run.textcfg.is_file() for run in routed.runs)
    assert routed.bitstream is not None
    assert routed.bitstream.read_bytes()[:2] == b"\xff\x00"
    assert 'FREQUENCY PORT "clk" 100 MHZ;' in (netlist.parent / "top.lpf").read_text()


def test_the_clock_has_the_boards_pin_and_rate():
    text = pnr._pins("clock", 25.0)

    assert 'LOCATE COMP "clock" SITE "G2";' in text
    assert text.count("FREQUENCY") == 1
    assert 'FREQUENCY PORT "clock" 25 MHZ;' in text


def test_a_refusal_is_one_line(tmp_path, netlist):
    broken = tmp_path / "mapped.json"
    shutil.copyfile(netlist, broken)
    broken.write_text(broken.read_text().replace("TRELLIS_FF", "NO_SUCH_CELL"))

    with pytest.raises(ClaimError, match=r"nextpnr_ecp5: .*NO_SUCH_CELL") as error:
        pnr.place_and_route(broken, ECP5, clock="clk", seeds=(1,))
    assert "\n" not in str(error.value)


def test_no_seed_is_refused(netlist):
    with pytest.raises(InputError, match="at least one seed"):
        pnr.place_and_route(netlist, ECP5, clock="clk", seeds=())
