"""`synth` on a small build directory: counts, the file it leaves, claims that fail."""

import dataclasses
import json

import pytest

from tercet.flow import synth, targets
from tercet.quant.errors import ClaimError, InputError


def test_counts_replicas_and_estimate_are_reported_and_kept(tmp_path, build_directory):
    result = synth.synth(build_directory(tmp_path))

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
    assert result["estimate"] == {"luts": 20, "source": "a test"}
    assert (result["fmax_mhz"], result["seeds"], result["bitstream"]) == (None, [], None)


def test_place_and_route_adds_the_clock_and_the_bitstream(tmp_path, build_directory):
    result = synth.synth(build_directory(tmp_path), pnr=True, seeds=(7,), frequency_mhz=50)

    assert result["fmax_mhz"] > 50
    assert result["seeds"] == [{"seed": 7, "fmax_mhz": result["fmax_mhz"]}]
    assert (tmp_path / result["bitstream"]).is_file()


def test_a_clock_that_is_not_reached_is_a_failed_claim(tmp_path, build_directory):
    with pytest.raises(ClaimError, match=r"timing: the median clock is \d+\.\d MHz, asked for 999"):
        synth.synth(build_directory(tmp_path), pnr=True, seeds=(1,), frequency_mhz=999)

    assert json.loads((tmp_path / "synth_ecp5-25k.json").read_text())["fmax_mhz"] > 0


def test_a_design_that_does_not_fit_is_not_placed(tmp_path, build_directory, monkeypatch):
    small = dataclasses.replace(targets.find("ecp5-25k"), dsps=0)
    monkeypatch.setitem(targets.TARGETS, "ecp5-25k", small)

    with pytest.raises(ClaimError, match="does not fit ecp5-25k: dsps 1 of 0"):
        synth.synth(build_directory(tmp_path), pnr=True)


def test_another_target_has_no_estimate(tmp_path, build_directory):
    result = synth.synth(build_directory(tmp_path), target="ice40-hx8k")

    assert (result["target"], result["dsps"], result["estimate"]) == ("ice40-hx8k", 0, None)


def test_lost_replicas_are_a_failed_claim_and_the_counts_are_kept(tmp_path, build_directory):
    with pytest.raises(ClaimError, match=r"0 of 4 voter bits .* voter_0: .*two replicas are one"):
        synth.synth(build_directory(tmp_path, keep=""))

    result = json.loads((tmp_path / "synth_ecp5-25k.json").read_text())
    assert result["replicas"]["found"] == 0


def test_a_changed_design_is_refused(tmp_path, build_directory):
    build_directory(tmp_path)
    with (tmp_path / "top.v").open("a") as file:
        file.write("// edited\n")

    with pytest.raises(InputError, match="not the design that"):
        synth.synth(tmp_path)


def test_a_link_out_of_the_directory_is_refused(tmp_path, build_directory):
    outside = tmp_path / "outside"
    outside.mkdir()
    design = tmp_path / "design"
    design.mkdir()
    (build_directory(design) / "synth_ecp5-25k").symlink_to(outside)

    with pytest.raises(InputError, match="is a link"):
        synth.synth(design)
    assert not list(outside.iterdir())


def test_place_and_route_is_for_ecp5(tmp_path, build_directory):
    with pytest.raises(InputError, match="--pnr works for ecp5 targets only, not for xc7a35t"):
        synth.synth(build_directory(tmp_path, target="xc7a35t"), pnr=True)


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
