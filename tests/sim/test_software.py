"""The software engine gives what one multiplication after the other gives, on NumPy and torch."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.quant import ir, ranges, reference, shapes
from tercet.quant.errors import InputError
from tercet.quant.faults import LAST, Op, Tensor, TensorFault, TensorFaults
from tercet.sim.engines import software
from tercet.sim.engines.software import SoftwareEngine, predict
from tercet.sim.outcomes import Outcome

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


def two_layers():
    """Four values -> three -> two logits; every number by hand below."""
    table = ir.Requantize(np.array([1]), np.array([3]), ir.TensorType(8, False), m_bits=8, lo=0)
    first = ir.Dense(
        name="hidden", inputs=("x",), bias=np.array([5, -4, 0]), requantize=table,
        weight=np.array([[3, -2, 1, 7], [1, 1, -1, 2], [-5, 6, 0, 1]]),
    )  # fmt: skip
    second = ir.Dense(
        name="logits", inputs=("hidden",), bias=np.array([0, 10]),
        weight=np.array([[2, -1, 3], [1, 4, -2]]),
    )  # fmt: skip
    return ir.Graph("two", "x", (4,), ir.TensorType(8, True), (first, second), "logits")


X = np.array([[10, -20, 30, 40]])  # hidden sums 385, 36, -130 -> words 48, 5, 0; logits 91, 78
GRAPH = two_layers()


@pytest.mark.parametrize(
    ("fault", "words", "outcome"),
    [
        # The first product 3 * 10 = 30 loses its bit 4: 385 - 16 = 369 -> 46.
        (TensorFault("hidden", Tensor.PRODUCT, 0, 16, step=0), [87, 76], "sdc_tolerable"),
        # 5 + 30 + 40 = 75 gets bit 9: 385 + 512 = 897 -> 112.
        (TensorFault("hidden", Tensor.ACCUMULATOR, 0, 512, step=1), [219, 142], "sdc_tolerable"),
        # Weight 7 becomes 3: 385 - 160 = 225 -> 28.
        (TensorFault("hidden", Tensor.WEIGHT, 3, 4), [51, 58], "sdc_critical"),
        # The same weight, read wrong once, is the same here: it serves one position.
        (TensorFault("hidden", Tensor.WEIGHT_READ, 0, 4, step=3), [51, 58], "sdc_critical"),
        # Bit 0 of the sum is rounded away.
        (TensorFault("hidden", Tensor.ACCUMULATOR, 0, 1), [91, 78], "masked"),
        # The bias 10 becomes 8.
        (TensorFault("logits", Tensor.BIAS, 1, 2), [91, 76], "sdc_tolerable"),
        # Word 5 becomes 133.
        (TensorFault("hidden", Tensor.ACTIVATION, 1, 128), [-37, 590], "sdc_critical"),
        # -130 before the ReLU is -16; + 64 leaves 48.
        (TensorFault("hidden", Tensor.PREACTIVATION, 2, 64, Op.ADD), [235, -18], "sdc_tolerable"),
        # The input 40, as the first layer sees it, becomes 8: 161 and -28 -> 20 and 0.
        (TensorFault("hidden", Tensor.INPUT, 3, 32), [40, 30], "sdc_tolerable"),
    ],
)
@pytest.mark.parametrize("device", [None, "cpu"])
def test_one_word_by_hand(fault, words, outcome, device):
    if device:
        pytest.importorskip("torch")
    assert reference.run(GRAPH, X)[0].tolist() == [91, 78]

    found = predict(GRAPH, X, TensorFaults.single([fault]), device)

    assert found.words.tolist() == [words]
    assert Outcome(found.outcome[0]).label == outcome


def test_a_wider_accumulator_keeps_a_flip_that_wraps():
    bits = ranges.infer(GRAPH)["hidden"].raw_bits
    fault = TensorFaults.single([TensorFault("hidden", Tensor.ACCUMULATOR, 0, 1 << (bits - 1))])
    wide = TensorFaults.single([TensorFault("hidden", Tensor.ACCUMULATOR, 0, 1 << bits)])

    assert predict(GRAPH, X, fault).words[0].tolist() == [-5, 30]  # far below zero: the ReLU's 0
    with pytest.raises(InputError, match="none beyond its word"):
        predict(GRAPH, X, wide)
    found = predict(GRAPH, X, wide, acc_bits={"hidden": bits + 1})
    assert found.words[0].tolist() == [-5, 30]


def test_inferences_without_a_fault_are_masked_but_no_fault_at_all_is_an_error():
    some = TensorFaults.listed([[], [TensorFault("hidden", Tensor.WEIGHT, 3, 4)], []], [0, 0, 0])

    assert predict(GRAPH, X, some).outcome.tolist() == [0, Outcome.SDC_CRITICAL, 0]
    with pytest.raises(InputError, match="the list is empty"):
        predict(GRAPH, X, TensorFaults.listed([[], []], [0, 0]))


def test_batches_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    faults = [random_fault(rng, GRAPH) for _ in range(300)]
    whole = predict(GRAPH, X, TensorFaults.single(faults))
    monkeypatch.setattr(software, "BATCH_ELEMENTS", 28)
    told = []

    found = SoftwareEngine(GRAPH, X).run(TensorFaults.single(faults), told.append)

    assert np.array_equal(found.words, whole.words)
    assert sum(told) == 300
    assert len(told) > 20


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (TensorFault("nowhere", Tensor.WEIGHT, 0, 1), "no layer 'nowhere'"),
        (TensorFault("x", Tensor.WEIGHT, 0, 1), "layer x: weight: only convolutions"),
        (TensorFault("hidden", Tensor.WEIGHT, 12, 1), r"weight: index must lie in 0\.\.11"),
        (TensorFault("hidden", Tensor.PRODUCT, 0, 1), r"product: step must lie in 0\.\.3"),
        (
            TensorFault("hidden", Tensor.PRODUCT, 0, 1, step=2, span=3),
            r"last product must lie in 1\.\.4",
        ),
        (TensorFault("hidden", Tensor.ACCUMULATOR, 0, 1, step=4), "step must lie in -1..3"),
        (TensorFault("hidden", Tensor.WEIGHT, 0, 256), "none beyond its word"),
        (TensorFault("hidden", Tensor.WEIGHT, 0, 0), "a mask must have a bit set"),
    ],
)
def test_a_fault_that_strikes_no_word_is_refused(fault, message):
    with pytest.raises(InputError, match=message):
        predict(GRAPH, X, TensorFaults.single([fault]))


def test_inputs_that_are_not_there_are_refused():
    with pytest.raises(InputError, match=r"inputs must be 0\.\.0"):
        predict(GRAPH, X, TensorFaults.single([TensorFault("hidden", Tensor.WEIGHT, 0, 1)], 1))
    with pytest.raises(InputError, match="needs at least one input"):
        predict(GRAPH, X[:0], TensorFaults.single([]))


def test_an_unknown_device_is_refused():
    pytest.importorskip("torch")
    with pytest.raises(InputError, match="device 'abacus' cannot be used"):
        SoftwareEngine(GRAPH, X, "abacus")


def test_a_sum_of_products_does_not_meet_another_change_of_its_element():
    pair = [
        TensorFault("hidden", Tensor.PRODUCT, 0, 1, step=0, span=2),
        TensorFault("hidden", Tensor.PRODUCT, 0, 1, step=1),
    ]
    with pytest.raises(InputError, match="sum of products"):
        predict(GRAPH, X, TensorFaults.listed([pair], [0]))
