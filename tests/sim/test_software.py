"""The software engine gives what one multiplication after the other gives, on NumPy and torch."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.quant import ir, ranges, shapes
from tercet.quant.faults import LAST, Op, Tensor, TensorFault, TensorFaults
from tercet.sim.engines.software import predict

LINEAR = (ir.Conv2d, ir.Dense)


@pytest.fixture(scope="session")
def slow_run(helper, naive):
    module = helper("quant", "naive_faults")
    return lambda *args: module.run(naive, *args)


def random_fault(rng, graph):
    """Any word of any layer, any change that the word can take."""
    kinds, sizes, found = ranges.types(graph), shapes.infer(graph), ranges.infer(graph)
    node = graph.nodes[rng.integers(len(graph.nodes))]
    choices = [Tensor.ACTIVATION, Tensor.INPUT]
    if isinstance(node, LINEAR):
        choices += list(Tensor)
        if isinstance(node.requantize, ir.Thresholds):
            choices = [kind for kind in choices if kind != Tensor.PREACTIVATION]
    tensor = choices[rng.integers(len(choices))]
    name, source = node.name, node.inputs[0]
    if tensor == Tensor.ACTIVATION and rng.random() < 0.2:
        name = graph.input_name
    size, kind = int(np.prod(sizes[name])), kinds[name]
    bits, step, op = kind.bits, LAST, Op(int(rng.integers(5)))
    if tensor == Tensor.INPUT:
        size, bits, kind = int(np.prod(sizes[source])), kinds[source].bits, kinds[source]
    elif tensor != Tensor.ACTIVATION:
        terms = node.weight[0].size
        act = kinds[source]
        kind = ir.TensorType(60, True)
        bits = found[name].raw_bits
        step = int(rng.integers(LAST, terms))
        if tensor == Tensor.WEIGHT:
            size = node.weight.size
        if tensor == Tensor.BIAS:
            size = node.out_channels
        if tensor in (Tensor.WEIGHT_READ, Tensor.INPUT_READ, Tensor.PRODUCT):
            step = max(step, 0)
        if tensor in (Tensor.WEIGHT, Tensor.WEIGHT_READ):
            bits = node.weight_bits
            kind = ir.TensorType(bits, True, bipolar=node.weight_bipolar)
        if tensor == Tensor.INPUT_READ:
            bits, kind = act.bits, act
        if tensor == Tensor.PRODUCT:
            bits = act.bits + node.weight_bits + (not (act.signed or node.weight_bipolar))
            if act.bipolar and node.weight_bipolar:
                bits, kind = 1, act
    if tensor == Tensor.PREACTIVATION:
        return TensorFault(
            name, tensor, int(rng.integers(size)), int(rng.integers(-99, 99)), Op.ADD
        )
    value = 1 << int(rng.integers(bits))
    if rng.random() < 0.3:
        value |= 1 << int(rng.integers(bits))
    if op in (Op.ADD, Op.PUT):
        op = Op.PUT if kind.bipolar else op
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1
        value = int(rng.choice([-1, 1])) if kind.bipolar else int(rng.integers(low, high + 1))
        value = abs(value) if op == Op.PUT and not kind.signed else value
    return TensorFault(name, tensor, int(rng.integers(size)), value, op, step)


def random_experiment(rng, graph):
    """One to four faults; now and then several on one element."""
    faults = [random_fault(rng, graph) for _ in range(int(rng.integers(1, 5)))]
    inner = (Tensor.PRODUCT, Tensor.ACCUMULATOR, Tensor.WEIGHT_READ, Tensor.INPUT_READ)
    if rng.random() < 0.5:
        chosen = [f for f in faults if f.tensor in inner]
        faults += [
            dataclasses.replace(g, index=f.index, step=max(f.step, 0))
            for f in chosen[:1]
            for g in chosen[1:]
            if g.layer == f.layer
        ]
    return faults


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_fault_equals_the_slow_run(random_graph, random_input, slow_run, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, max_hw=4, max_channels=3)
    x = random_input(rng, graph, 3)
    experiments = [random_experiment(rng, graph) for _ in range(12)]
    frame = rng.integers(0, 3, len(experiments))

    found = predict(graph, x, TensorFaults.listed(experiments, frame))

    for i, faults in enumerate(experiments):
        expected = slow_run(graph, x[frame[i]], faults)[graph.output]
        assert np.array_equal(found.words[i], expected), faults


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_torch_gives_the_same_words(random_graph, random_input, seed):
    pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, max_hw=4, max_channels=3)
    x = random_input(rng, graph, 3)
    experiments = [random_experiment(rng, graph) for _ in range(12)]
    faults = TensorFaults.listed(experiments, rng.integers(0, 3, len(experiments)))

    one, other = predict(graph, x, faults), predict(graph, x, faults, device="cpu")

    assert np.array_equal(one.words, other.words)
    assert np.array_equal(one.outcome, other.outcome)
