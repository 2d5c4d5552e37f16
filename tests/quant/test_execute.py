"""The torch executor equals the reference bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.quant import execute, ir, reference
from tercet.quant.errors import InputError

pytest.importorskip("torch")
INT8 = ir.TensorType(bits=8, signed=True)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_tensor_equals_the_reference(random_graph, random_input, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, max_hw=8)
    x = random_input(rng, graph, 3)

    found = execute.execute(graph, x)
    expected = reference.execute(graph, x)

    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == np.int64
        assert np.array_equal(found[name], values), name


@pytest.mark.parametrize("count", [0, 1, execute.CHUNK_IMAGES + 2])
def test_run_returns_the_output(random_graph, random_input, count):
    rng = np.random.default_rng(5)
    graph = random_graph(rng)
    x = random_input(rng, graph, count)

    assert np.array_equal(execute.run(graph, x), reference.run(graph, x))


@pytest.mark.parametrize("terms", [2**10 + 1, 2**17 + 1])
def test_sums_beyond_float32_and_int32_are_exact(terms):
    rng = np.random.default_rng(terms)
    weight = rng.choice([-128, -127], (3, terms))
    node = ir.Dense(name="fc", inputs=("x",), weight=weight, bias=[2**40 - 1, 0, -(2**40) + 1])
    graph = ir.Graph("g", "x", (terms,), INT8, (node,), "fc")
    x = rng.choice([-128, -127], (2, terms))

    found = execute.run(graph, x)

    exact = x.astype(object) @ weight.T.astype(object) + node.bias.astype(object)
    assert np.array_equal(found, exact)
    assert np.array_equal(reference.run(graph, x), exact)


def test_largest_multiplier_and_shifts():
    weight = np.full((4, 64), -128)
    table = ir.Requantize([2**31 - 1] * 4, [0, 30, 50, 62], INT8, m_bits=31)
    node = ir.Dense(name="fc", inputs=("x",), weight=weight, bias=[3, -1, 0, 9], requantize=table)
    graph = ir.Graph("g", "x", (64,), INT8, (node,), "fc")
    x = np.random.default_rng(0).integers(-128, 128, (50, 64))

    assert np.array_equal(execute.run(graph, x), reference.run(graph, x))


def test_unknown_device_is_refused(random_graph, random_input):
    graph = random_graph(np.random.default_rng(0))
    x = random_input(np.random.default_rng(0), graph, 1)

    with pytest.raises(InputError, match="device 'nonsense' cannot be used"):
        execute.run(graph, x, device="nonsense")


@pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="needs a CUDA device")
def test_gpu_equals_the_reference(random_graph, random_input):
    for seed in range(100):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng, max_hw=8)
        x = random_input(rng, graph, 3)

        assert np.array_equal(execute.run(graph, x, device="cuda"), reference.run(graph, x))
