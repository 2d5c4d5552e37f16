"""Measured neuron scores equal an exhaustive count; the choice stays within its share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.quant import criticality, ir, ranges, reference
from tercet.quant.criticality import propagate
from tercet.quant.errors import InputError

UINT4 = ir.TensorType(bits=4, signed=False)
INT8 = ir.TensorType(bits=8, signed=True)


def _table(multiplier, shift, out=UINT4, **more):
    return ir.Requantize([multiplier], [shift], out, **more)


def _dense(name, source, weight, table=None):
    bias = np.zeros(len(weight), dtype=int)
    return ir.Dense(name=name, inputs=(source,), weight=weight, bias=bias, requantize=table)


def _two_layers(seed, table, *, argmax=False):
    rng = np.random.default_rng(seed)
    nodes = [
        _dense("hidden", "x", rng.integers(-8, 8, (3, 5)), table),
        _dense("fc", "hidden", rng.integers(-8, 8, (4, 3))),
    ]
    if argmax:
        nodes.append(ir.ArgMax(name="label", inputs=("fc",)))
    graph = ir.Graph("g", "x", (5,), INT8, tuple(nodes), nodes[-1].name)
    return graph, rng.integers(-128, 128, (6, 5))


def _exhaustive(graph, x):
    """Scores of the layer `hidden` over all images and bits, flips made on Python's integers."""
    hidden, fc = graph.nodes[0], graph.nodes[1]
    bits = ranges.infer(graph)["hidden"].acc_bits
    table = hidden.requantize
    counts = np.zeros((hidden.out_channels, len(x) * bits))
    for i, image in enumerate(x.astype(object)):
        acc = [int(w @ image) for w in hidden.weight.astype(object)]
        for neuron in range(hidden.out_channels):
            for bit in range(bits):
                faulty = list(acc)
                word = (faulty[neuron] % (1 << bits)) ^ (1 << bit)
                faulty[neuron] = word - (1 << bits) if word >> (bits - 1) else word
                classes = []
                for words in (acc, faulty):
                    m, s = int(table.multiplier[0]), int(table.shift[0])
                    q = [min(max((v * m + (1 << s >> 1)) >> s, 0), 15) for v in words]
                    logits = list(fc.weight.astype(object) @ np.array(q, dtype=object))
                    classes.append(logits.index(max(logits)))
                counts[neuron, i * bits + bit] = classes[0] != classes[1]
    return counts.mean(axis=1)


@pytest.mark.parametrize("argmax", [False, True])
def test_scores_estimate_the_exhaustive_share(argmax):
    graph, x = _two_layers(3, _table(300, 14), argmax=argmax)
    trials = 4000

    found = criticality.neuron_scores(graph, x, seed=1, trials=trials)["hidden"]

    exact = _exhaustive(graph, x)
    assert exact.max() > 0.05
    error = np.sqrt(np.maximum(exact * (1 - exact), 1e-3) / trials)
    assert (np.abs(found - exact) < 4.5 * error).all()


def test_faulty_words_beyond_the_proof_are_exact():
    """The first good accumulator times m just fits 63 bits; with bit 29 inverted it does not."""
    rng = np.random.default_rng(2)
    hidden = ir.Dense(
        name="hidden",
        inputs=("x",),
        weight=np.zeros((3, 5), dtype=int),
        bias=[0xD0000000, 2**31, 5],
        requantize=_table((1 << 31) - 1, 61, m_bits=31),
    )
    fc = _dense("fc", "hidden", [[3, 0, 0], [0, 4, 0], [0, 0, 1]])
    graph = ir.Graph("g", "x", (5,), INT8, (hidden, fc), "fc")
    assert 0xF0000000 * ((1 << 31) - 1) + (1 << 60) >= 1 << 63
    bits = ranges.infer(graph)["hidden"].acc_bits
    trials = 20_000

    found = criticality.neuron_scores(graph, rng.integers(-1, 1, (2, 5)), seed=0, trials=trials)

    exact = _bias_only(hidden, fc, bits)
    error = np.sqrt(np.maximum(exact * (1 - exact), 1e-4) / trials)
    assert (np.abs(found["hidden"] - exact) < 4.5 * error).all()


def _bias_only(hidden, fc, bits):
    """The exhaustive share where every accumulator is its bias."""

    def top1(words):
        q = [min(max((w * ((1 << 31) - 1) + (1 << 60)) >> 61, 0), 15) for w in words]
        logits = [sum(int(a) * b for a, b in zip(row, q, strict=True)) for row in fc.weight]
        return logits.index(max(logits))

    good = [int(b) for b in hidden.bias]
    shares = []
    for neuron in range(3):
        changes = 0
        for bit in range(bits):
            word = (good[neuron] % (1 << bits)) ^ (1 << bit)
            word = word - (1 << bits) if word >> (bits - 1) else word
            changes += top1([*good[:neuron], word, *good[neuron + 1 :]]) != top1(good)
        shares.append(changes / bits)
    return np.array(shares)


def test_a_neuron_that_nothing_reads_scores_zero():
    hidden = _dense("hidden", "x", [[1, 2], [3, -4]], _table(1, 0, INT8))
    fc = _dense("fc", "hidden", [[5, 0], [-5, 0]])
    graph = ir.Graph("g", "x", (2,), INT8, (hidden, fc), "fc")
    x = np.random.default_rng(0).integers(-20, 20, (10, 2))

    scores = criticality.neuron_scores(graph, x, seed=0, trials=300)["hidden"]

    assert scores[1] == 0
    assert scores[0] > 0.05


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_graph_gives_shares_and_repeats(random_graph, random_input, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    x = random_input(rng, graph, 4)

    first = criticality.neuron_scores(graph, x, seed=7, trials=20)
    second = criticality.neuron_scores(graph, x, seed=7, trials=20)

    linear = {n.name: n.out_channels for n in graph if isinstance(n, ir.Conv2d | ir.Dense)}
    assert {name: len(values) for name, values in first.items()} == linear
    for name, values in first.items():
        assert ((values >= 0) & (values <= 1)).all()
        assert np.array_equal(values, second[name])


def test_early_stop_changes_no_outcome(random_graph, random_input, monkeypatch):
    """Every propagated fault against a full run of the graph from the faulty tensor on."""
    checked = 0
    run = propagate.Propagation._run

    def compare(self, nodes, name, images, faulty):
        nonlocal checked
        values = {key: value[images] for key, value in self.golden.items()} | {name: faulty}
        for node in nodes:
            values[node.name] = self.model.evaluate(node, [values[n] for n in node.inputs])
        full = self._top1(values[self.model.graph.output]) != self.top1[images]
        found = run(self, nodes, name, images, faulty)
        assert np.array_equal(found, full)
        checked += int(full.sum())
        return found

    monkeypatch.setattr(propagate.Propagation, "_run", compare)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng, {"Conv2d", "Add", "Concat", "MaxPool", "Flatten", "Dense"})
        criticality.neuron_scores(graph, random_input(rng, graph, 3), seed=seed, trials=30)

    assert checked > 100


def test_cost_of_a_neuron():
    conv = ir.Conv2d(
        name="c",
        inputs=("x",),
        weight=np.ones((4, 3, 3, 2), dtype=int),
        bias=[0] * 4,
        groups=2,
        requantize=_table(1, 0),
    )
    flat = ir.Flatten(name="f", inputs=("c",))
    fc = _dense("fc", "f", np.ones((10, 100), dtype=int))
    graph = ir.Graph("g", "x", (7, 7, 4), INT8, (conv, flat, fc), "fc")

    assert criticality.macs_per_neuron(graph) == {"c": 25 * 18, "fc": 100}
    assert reference.run(graph, np.zeros((1, 7, 7, 4), dtype=int)).shape == (1, 10)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.01, 1))
def test_choice_is_greedy_within_the_share(seed, share):
    rng = np.random.default_rng(seed)
    scores = {name: rng.choice([0, 0.1, 0.5, 0.9], rng.integers(1, 6)) for name in ("a", "b")}
    macs = {"a": int(rng.integers(1, 50)), "b": int(rng.integers(1, 50))}
    total = sum(macs[n] * len(v) for n, v in scores.items())
    if share * total < min(macs.values()):
        with pytest.raises(InputError, match="share"):
            criticality.choose(scores, macs, share)
        return

    chosen = criticality.choose(scores, macs, share)

    spent = sum(macs[n] * len(v) for n, v in chosen.items())
    assert 0 < spent <= share * total
    for name, values in scores.items():
        taken = [values[i] for i in chosen.get(name, [])]
        left = [v for i, v in enumerate(values) if i not in chosen.get(name, [])]
        if taken and left:
            assert min(taken) >= max(left)
        if left and max(left) > 0:
            assert macs[name] > share * total - spent  # it did not fit


def test_choice_prefers_score_per_mac():
    scores = {"conv": np.array([0.9, 0.2]), "fc": np.array([0.1, 0.3])}

    chosen = criticality.choose(scores, {"conv": 90, "fc": 10}, 0.1)

    assert chosen == {"fc": [0, 1]}


def test_risk_is_greedy_by_the_score_itself():
    scores = {"conv": np.array([0.9, 0.2]), "fc": np.array([0.1, 0.3])}
    macs = {"conv": 90, "fc": 10}

    chosen = criticality.choose(criticality.risk(scores, macs), macs, 0.5)

    assert chosen == {"conv": [0], "fc": [1]}


@pytest.mark.parametrize("share", [0, -1, 1.5, float("nan"), 0.001])
def test_choice_refuses_the_share(share):
    with pytest.raises(InputError, match=r"^share"):
        criticality.choose({"fc": np.array([1.0])}, {"fc": 10}, share)


@pytest.mark.parametrize(("images", "trials"), [(0, 5), (2, 0)])
def test_scores_need_images_and_trials(images, trials):
    graph, x = _two_layers(0, _table(1, 0))

    with pytest.raises(InputError, match="needs trials and images"):
        criticality.neuron_scores(graph, x[:images], seed=0, trials=trials)
