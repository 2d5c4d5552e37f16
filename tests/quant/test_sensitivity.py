"""Sensitivities equal exhaustive counts on small graphs, and exist for any graph."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.quant import ir, ranges
from tercet.quant.errors import InputError
from tercet.quant.sensitivity import LayerSensitivity, Sensitivity, measure

UINT4 = ir.TensorType(bits=4, signed=False)
INT4 = ir.TensorType(bits=4, signed=True)
TRIALS = 6000


def _dense(name, source, weight, table=None, bits=4):
    bias = np.arange(len(weight)) - 2
    return ir.Dense(
        name=name, inputs=(source,), weight=weight, bias=bias, requantize=table, weight_bits=bits
    )


@pytest.fixture(scope="module")
def network():
    """Two dense layers of 4-bit words, and 5 images."""
    rng = np.random.default_rng(4)
    nodes = (
        _dense("hidden", "x", rng.integers(-8, 8, (6, 4)), ir.Requantize([300], [11], UINT4)),
        _dense("fc", "hidden", rng.integers(-8, 8, (3, 6))),
    )
    return ir.Graph("g", "x", (4,), INT4, nodes, "fc"), rng.integers(-8, 8, (5, 4))


@pytest.fixture(scope="module")
def measured(network):
    return measure(*network, seed=1, trials=TRIALS)


def _flip(word, bit, bits):
    word = (word % (1 << bits)) ^ (1 << bit)
    return word - (1 << bits) if word >> (bits - 1) else word


def _classes(graph, hidden_acc):
    table, fc = graph.nodes[0].requantize, graph.nodes[1]
    m, s = int(table.multiplier[0]), int(table.shift[0])
    q = [min(max((int(v) * m + (1 << s >> 1)) >> s, 0), 15) for v in hidden_acc]
    logits = [sum(int(a) * b for a, b in zip(row, q, strict=True)) + int(c)
              for row, c in zip(fc.weight, fc.bias, strict=True)]  # fmt: skip
    return logits.index(max(logits))


def _wrap(value, bits):
    half = 1 << (bits - 1)
    return (value + half) % (2 * half) - half


def _counted(graph, x, lanes=1):
    """P(class changes) of `acc`, `partial`, `product`, `weight` and `act` of the hidden layer."""
    node = graph.nodes[0]
    bits = ranges.infer(graph)["hidden"].acc_bits
    changed = {name: [] for name in ("acc", "partial", "product", "weight", "act")}
    for image in x.tolist():
        terms = [[int(w) * v for w, v in zip(row, image, strict=True)] for row in node.weight]
        acc = [sum(row) + int(b) for row, b in zip(terms, node.bias, strict=True)]
        good = _classes(graph, acc)

        def hit(neuron, change, acc=acc, good=good):
            wrong = list(acc)
            wrong[neuron] = _wrap(wrong[neuron] + change, bits)
            return _classes(graph, wrong) != good

        for n in range(6):
            changed["acc"] += [hit(n, _flip(acc[n], b, bits) - acc[n]) for b in range(bits)]
            for i, term in enumerate(terms[n]):
                changed["product"] += [hit(n, _flip(term, b, 8) - term) for b in range(8)]
                sums = acc[n] - sum(terms[n][i + 1 :])
                changed["partial"] += [hit(n, _flip(sums, b, bits) - sums) for b in range(bits)]
                w = int(node.weight[n, i])
                changed["weight"] += [hit(n, (_flip(w, b, 4) - w) * image[i]) for b in range(4)]
        for first, i, b in itertools.product(range(0, 6, lanes), range(4), range(4)):
            change = _flip(image[i], b, 4) - image[i]
            wrong = list(acc)
            for n in range(first, min(6, first + lanes)):
                wrong[n] = _wrap(wrong[n] + change * int(node.weight[n, i]), bits)
            weight = min(6, first + lanes) - first  # trials start from a neuron
            changed["act"] += [_classes(graph, wrong) != good] * weight
    return {name: np.mean(values) for name, values in changed.items()}


@pytest.mark.parametrize("name", ["acc", "partial", "product", "weight", "act1", "act4"])
def test_flips_are_those_of_an_exhaustive_count(network, measured, name):
    counted = _counted(*network, lanes=4 if name == "act4" else 1)

    found = measured.layers["hidden"].mean(name)

    exact = counted[name.rstrip("14")]
    assert exact > 0.01
    assert abs(found - exact) < 4.5 * np.sqrt(exact * (1 - exact) / TRIALS)


def test_results_and_totals_equal_flips_of_the_delivered_word(network, measured):
    graph, x = network
    fc = graph.nodes[1]
    run = [[_hidden(graph, image, n) for n in range(6)] for image in x.tolist()]
    counts = []
    for q in run:
        good = int(np.argmax(fc.weight @ q + fc.bias))
        for n, b in itertools.product(range(6), range(4)):
            wrong = list(q)
            wrong[n] ^= 1 << b
            counts.append(int(np.argmax(fc.weight @ wrong + fc.bias)) != good)
    exact = np.mean(counts)

    layers = measured.layers

    assert exact > 0.05
    for found in (layers["hidden"].mean("result"), layers["fc"].mean("operand0")):
        assert abs(found - exact) < 4.5 * np.sqrt(exact / TRIALS)


def _hidden(graph, image, n):
    node, table = graph.nodes[0], graph.nodes[0].requantize
    acc = int(node.weight[n] @ image + node.bias[n])
    m, s = int(table.multiplier[0]), int(table.shift[0])
    return min(max((acc * m + (1 << s >> 1)) >> s, 0), 15)


def test_one_operand_of_a_join_is_struck_by_itself():
    """x + 3 x: a flip in the second operand weighs three times as much."""
    eye = np.eye(2, dtype=int)
    table = ir.Requantize([1], [0], INT4)
    nodes = (
        _dense("a", "x", eye, table),
        ir.Add(
            name="s", inputs=("a", "a"), multipliers=(1, 3), shift=0, out=ir.TensorType(8, True)
        ),
    )
    graph = ir.Graph("g", "x", (2,), INT4, nodes, "s")
    x = np.array([[3, -3], [2, 1], [-4, 2]])

    found = measure(graph, x, trials=3000).layers["s"]

    assert found.mean("operand1") > 1.2 * found.mean("operand0") > 0


def test_argmax_keeps_a_wrong_index_once_the_winner_has_passed():
    nodes = (
        _dense("fc", "x", [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ir.ArgMax(name="top", inputs=("fc",)),
    )
    graph = ir.Graph("g", "x", (3,), INT4, nodes, "top")

    found = measure(graph, np.array([[1, 7, -3]]), trials=3000).layers["top"]

    assert found.mean("index") == pytest.approx(2 / 3, abs=0.05)  # steps 1 and 2 of 3
    assert 0 < found.mean("best") < 1


def test_a_modulus_is_blind_to_weights_of_what_it_divides(network, measured):
    values = network[1][network[1] != 0]

    blind = measured.layers["hidden"].blind

    assert blind[3] == pytest.approx((values % 3 == 0).mean())
    assert blind[255] == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_graph_is_measured_and_repeats(random_graph, random_input, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    x = random_input(rng, graph, 3)

    found = measure(graph, x, trials=20)
    again = measure(graph, x, trials=20)

    assert list(found.layers) == [node.name for node in graph]
    assert found.to_json() == again.to_json()
    for node in graph:
        layer = found.layers[node.name]
        assert {f"operand{i}" for i in range(len(node.inputs))} <= set(layer.curves)
        if isinstance(node, ir.Conv2d | ir.Dense):
            assert len(layer.neurons) == node.out_channels
            assert np.mean(layer.neurons) == pytest.approx(1)


def test_a_neuron_that_nothing_reads_is_below_the_mean(network):
    graph, x = network
    weight = graph.nodes[1].weight.copy()
    weight[:, 2] = 0
    nodes = (graph.nodes[0], _dense("fc", "hidden", weight))
    graph = ir.Graph("g", "x", (4,), INT4, nodes, "fc")

    neurons = measure(graph, x, trials=3000).layers["hidden"].neurons

    assert neurons[2] == min(neurons) < 0.1


def test_means_run_over_the_bits_of_a_register():
    layer = LayerSensitivity("a", {"total": (0.0, 0.2, 0.4), "act1": (0.1,), "act4": (0.5,)})

    assert layer.mean("total") == pytest.approx(0.2)
    assert layer.mean("total", -2, 4) == pytest.approx(0.2 / 4)
    assert layer.mean("total", 1, 4) == pytest.approx((0.2 + 3 * 0.4) / 4)
    assert layer.mean("total", 5, 2) == pytest.approx(0.4)
    assert layer.act(1) == pytest.approx(0.1)
    assert layer.act(2) == pytest.approx(0.3)
    assert layer.act(64) == pytest.approx(0.5)


def test_json_gives_the_same_table_back(measured):
    text = json.dumps(measured.to_json())

    assert Sensitivity.from_json(json.loads(text)).to_json() == measured.to_json()


@pytest.mark.parametrize("bad", [{}, {"graph": "a", "layers": 3}, {"layers": {"a": {"curves": 1}}}])
def test_another_json_is_refused(bad):
    with pytest.raises(InputError, match="measure again"):
        Sensitivity.from_json(bad)


@pytest.mark.parametrize(("images", "trials"), [(0, 5), (2, 0)])
def test_images_and_trials_are_needed(network, images, trials):
    graph, x = network

    with pytest.raises(InputError, match="needs trials and images"):
        measure(graph, x[:images], trials=trials)
