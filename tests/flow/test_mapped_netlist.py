"""The mapped netlist of a build directory: what is forbidden, kept, merged, and refused."""

import dataclasses
import hashlib
import json

import pytest

from tercet.flow import cli, mapped_netlist, targets
from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.mapped_netlist import map_design, run_netlist_campaign
from tercet.quant.errors import ClaimError, InputError
from tercet.sim.mapped import MappedTestbed

FORBIDDEN = {
    "ecp5-25k": ["block RAM"],
    "ice40-up5k": ["block RAM", "DSP"],
    "gw1n-9": ["block RAM", "LUT RAM", "DSP"],
    "xc7a35t": ["block RAM", "LUT RAM", "shift registers", "DSP"],
}


@pytest.mark.parametrize("target", FORBIDDEN)
def test_every_flip_flop_is_named_and_the_report_says_what_was_forbidden(
    tmp_path, build_directory, target
):
    folder, report = map_design(build_directory(tmp_path), target=target)

    assert folder == tmp_path / f"netlist_{target}"
    assert report["target"] == target
    assert report["forbidden"] == FORBIDDEN[target]
    registers = report["registers"]
    assert registers["ff_bits"] == report["ffs"] == registers["kept"] - registers["merged"]
    assert [registers[key] for key in ("mapped", "memory", "duplicated")] == [0, 0, 0]
    assert registers["kept"] >= 12 + 15
    unmatched = registers["unmatched"]
    assert len(unmatched["removed"]) == registers["removed"]
    assert not unmatched["merged"]
    assert not unmatched["duplicated"]
    assert report["lut_init_bits"] >= report["luts_with_init"] * 2


def test_the_directory_describes_the_netlist_and_its_source(tmp_path, build_directory):
    source = json.loads((build_directory(tmp_path) / "manifest.json").read_text())
    folder, report = map_design(tmp_path)

    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["design"] == hashlib.sha256((folder / "mapped.v").read_bytes()).hexdigest()
    assert manifest["mapped"] == report | {"source": source["design"]}
    assert (manifest["verilog"], manifest["target"]) == ("mapped.v", "ecp5-25k")
    assert manifest["sites"]["ff_bits"] == report["ffs"]


def test_merged_replicas_are_named(tmp_path, build_directory):
    _, report = map_design(build_directory(tmp_path, keep=""))

    registers = report["registers"]
    assert registers["merged"] == 8
    assert all(len(group) == 3 for group in registers["merged_registers"])
    assert registers["ff_bits"] == 4 + 16
    named = [bit for group in registers["merged_registers"] for bit in group]
    assert sorted(registers["unmatched"]["merged"]) == sorted(named)
    assert len(named) == 4 * 3


def test_a_second_time_is_answered_from_the_cache(tmp_path, build_directory, monkeypatch):
    first = map_design(build_directory(tmp_path))

    monkeypatch.setattr(mapped_netlist, "run", None)

    assert map_design(tmp_path) == first


def test_a_cell_that_holds_state_is_named(tmp_path, build_directory, monkeypatch):
    target = targets.find("xc7a35t")
    packed = dataclasses.replace(target.family, open_commands=target.family.commands)
    monkeypatch.setitem(targets.TARGETS, target.name, dataclasses.replace(target, family=packed))

    with pytest.raises(InputError, match=r"cell product\S* \(DSP48E1\): no model"):
        map_design(build_directory(tmp_path), target="xc7a35t")


def test_a_flip_flop_that_is_lost_on_the_way_fails(tmp_path, build_directory, monkeypatch):
    def fewer(verilog, top):
        return enumerate_all(verilog, top)[1:]

    enumerate_all = mapped_netlist.sites.enumerate
    monkeypatch.setattr(mapped_netlist.sites, "enumerate", fewer)
    directory = build_directory(tmp_path)
    with (directory / "top.v").open("a") as file:
        file.write("// not in the cache\n")
    made = json.loads((directory / "manifest.json").read_text())
    made["design"] = hashlib.sha256((directory / "top.v").read_bytes()).hexdigest()
    (directory / "manifest.json").write_text(json.dumps(made))

    with pytest.raises(ClaimError, match="28 mapped flip-flops, 28 named"):
        map_design(directory)


def test_a_stale_design_is_refused(tmp_path, build_directory):
    with (build_directory(tmp_path) / "top.v").open("a") as file:
        file.write("// edited\n")

    with pytest.raises(InputError, match="not the design that"):
        map_design(tmp_path)


def test_an_unknown_target_is_refused(tmp_path, build_directory):
    with pytest.raises(InputError, match="target 'max10' is unknown"):
        map_design(build_directory(tmp_path), target="max10")


def test_an_engine_that_is_none_is_refused(tmp_path, build_directory):
    with pytest.raises(InputError, match="engine must be one of netlist"):
        run_netlist_campaign(build_directory(tmp_path), engine="gatelevel")


def test_a_link_in_place_of_the_folder_is_refused(tmp_path, build_directory):
    outside, design = tmp_path / "outside", tmp_path / "design"
    outside.mkdir()
    design.mkdir()
    (build_directory(design) / "netlist_ecp5-25k").symlink_to(outside)

    with pytest.raises(InputError, match="is a link"):
        map_design(design)


@pytest.mark.slow
@pytest.mark.parametrize("target", FORBIDDEN)
def test_the_netlist_of_a_network_computes_the_reference(tmp_path, small, target):
    design = prepare(small.graph(), small.FOLDING)
    build_design(design, tmp_path, target="ecp5-25k", frames=small.frames(20))
    folder, report = map_design(tmp_path, target=target)

    testbed = MappedTestbed.open(folder, inputs=4)  # compares with the integer reference

    assert testbed.space.ff_bits == report["ffs"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["seu", "config"])
def test_campaigns_from_the_command_line_agree_with_cocotb(tmp_path, small, capsys, fault):
    design = prepare(small.graph(), small.FOLDING)
    build_design(design, tmp_path, target="ecp5-25k", frames=small.frames(20))
    options = f"--engine netlist --fault {fault} --faults 2000 --inputs 8 --audit 50 --json"

    status = cli.main(["inject", str(tmp_path), *options.split()])

    result = json.loads(capsys.readouterr().out)
    assert status == 0
    assert result["audit"] == {"sampled": 50, "disagreements": 0, "differing": []}
    assert result["netlist"]["forbidden"] == ["block RAM"]
    assert result["outcomes"]["sdc_critical"] > 0
