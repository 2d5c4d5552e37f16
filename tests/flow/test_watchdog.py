"""The watchdog behind a whole network: transparent, counted, and no upset ends in a hang."""

import json

import pytest

from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.estimator import estimate_design
from tercet.flow.plan import Checksum, Plan, Settings
from tercet.flow.targets import find
from tercet.quant.errors import InputError
from tercet.sim.verify import verify

GUARDED = Plan(Settings(Checksum(3)), watchdog=True)


@pytest.fixture(scope="module")
def built(small, tmp_path_factory):
    """Build directory and design of the small network with a checksum, parity and a watchdog."""
    folder = tmp_path_factory.mktemp("watchdog") / "design"
    design = prepare(small.graph(), small.FOLDING, GUARDED)
    build_design(design, folder)
    return folder, design


def test_its_registers_are_counted_and_its_voter_is_listed(built):
    folder, design = built
    manifest = json.loads((folder / "manifest.json").read_text())
    own = [r["width"] for r in manifest["sites"]["registers"] if r["layer"] == "watchdog"]

    cost = estimate_design(design, find("ecp5-25k"))

    (entry,) = (one for one in cost["layers"] if one["name"] == "watchdog")
    assert sum(own) == entry["rtl_ffs"] == 3 * design.watchdog.register_bits
    assert manifest["sites"]["ff_bits"] == cost["rtl_ffs"]
    (voter,) = (v for v in manifest["voters"] if v["layer"] == "watchdog")
    assert voter["width"] == design.watchdog.register_bits


def test_a_plan_without_it_has_none(small):
    design = prepare(small.graph(), small.FOLDING, Plan(Settings(Checksum(3))))

    assert design.watchdog is None
    assert all(
        layer["name"] != "watchdog" for layer in estimate_design(design, find("ecp5-25k"))["layers"]
    )


@pytest.mark.verilator
def test_a_guarded_network_is_bit_exact_under_stalls(built):
    found = verify(built[0], images=6)

    assert (found["images"], found["mismatches"]) == (6, 0)
    assert [bench["name"] for bench in found["benches"] if not bench["passed"]] == []
    assert found["latency_cycles"] == found["predicted"]["latency_cycles"]
    assert found["initiation_interval"] == found["predicted"]["initiation_interval"]


def test_a_layer_of_its_name_is_refused(small):
    graph = small.graph(("conv", "pool", "watchdog", "logits"))

    with pytest.raises(InputError, match="layer watchdog: has the name of the plan's watchdog"):
        prepare(graph, None, GUARDED)
