"""How the layers of QONNX models join, against their meaning in real numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tercet.quant import ir

from .qonnx_models import SHAPE, Model, assert_equal, conv, form, frames, run


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_residual_add(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    x = model.quant("x", 0.05)
    a = model.quant(conv(model, x, rng, (3, 3, 3, 3), pads=[1, 1, 1, 1]), 0.3, 4)
    b = model.quant(x, 0.09)
    output = model.quant(model.op("Relu", model.op("Add", a, b)), 0.17, signed=0)

    found = assert_equal(model, output, tmp_path, frames(rng))

    assert [type(node).__name__ for node in found.graph] == ["Conv2d", "AvgPool", "Add"]
    assert form(found, "add_5") == "integer"


def test_sum_of_one_scale_needs_no_quantiser(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    a, b = (model.quant(conv(model, model.quant("x", 0.05), rng), 0.3, 4) for _ in range(2))
    total = model.op("MaxPool", model.op("Relu", model.op("Add", a, b)), kernel_shape=[2, 2])

    found, ours, real = run(model, total, tmp_path, frames(rng))

    np.testing.assert_allclose(ours, real, atol=1e-6)
    assert found.graph.node("add_8").out.bits == 5


def test_concat_quantises_its_parts(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    x = model.quant("x", 0.05)
    a = conv(model, x, rng, pads=[1, 1, 1, 1])
    joined = model.op("Concat", a, x, axis=1)
    output = model.quant(model.op("Relu", model.op("Mul", joined, model.constant(1.5))), 0.25, 8)

    found, ours, real = run(model, output, tmp_path, frames(rng))

    assert isinstance(found.graph.node("concat_3"), ir.Concat)
    assert (np.abs(ours - real) > 0.5).mean() < 0.002


def test_pools(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    acc = conv(model, model.quant("x", 0.05), rng, pads=[1, 1, 1, 1])
    pooled = model.op("MaxPool", acc, kernel_shape=[2, 2], strides=[2, 1], pads=[1, 0, 1, 1])
    hidden = model.quant(model.op("Relu", pooled), 0.07, 4, signed=0)
    mean = model.op("AveragePool", hidden, kernel_shape=[2, 2])
    second = model.quant(mean, 0.11, 4, signed=0)
    output = model.quant(model.op("GlobalAveragePool", second), 0.013, 8, signed=0)

    found = assert_equal(model, output, tmp_path, frames(rng))

    assert {type(n).__name__ for n in found.graph} >= {"MaxPool", "GlobalAvgPool"}


def test_dense_layers_without_a_last_quantiser(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model((9,))
    weight = model.op("Transpose", model.quant(rng.normal(size=(6, 9)), 0.3, 4, narrow=1))
    acc = model.op("MatMul", model.quant("x", 0.1, 4), weight)
    hidden = model.quant(model.op("Add", acc, model.constant(rng.normal(size=6))), 0.5, 4)
    last = model.quant(rng.normal(size=(6, 5)), 0.02)
    bias = model.quant(rng.normal(size=5), 0.01, 16)
    output = model.op("Softmax", model.op("Gemm", hidden, last, bias, alpha=1.0))
    x = frames(rng, (9,), 200)

    found, ours, real = run(model, output, tmp_path, x)

    step = float(np.float32(0.5)) * float(np.float32(0.02))
    np.testing.assert_allclose(ours * step, real, atol=1e-6)
    assert found.exactness[-1].exact
    assert "softmax left away" in found.notes[0]


def test_float_bias_of_the_outputs_is_rounded_within_its_bound(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    model = Model((9,))
    weight = model.quant(rng.normal(size=(6, 9)), 0.3, 4, narrow=1)
    bias = model.constant(rng.normal(size=6))
    output = model.op("Gemm", model.quant("x", 0.1, 4), weight, bias, transB=1)

    found, ours, real = run(model, output, tmp_path, frames(rng, (9,), 50))

    finer = 1 << (found.graph.node("gemm_2").weight_bits - 4)
    step = float(np.float32(0.1)) * float(np.float32(0.3))
    bound = float(found.exactness[0].note.split("most ")[1].split()[0])
    assert bound <= 0.5
    assert np.abs(ours / finer - real / step).max() <= bound * 1.01


def test_channels_last_models(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model((6, 5, 3))
    x = model.op("Transpose", model.quant("x", 0.05), perm=[0, 3, 1, 2])
    hidden = model.quant(conv(model, x, rng), 0.3, 4)
    last = model.op("Transpose", hidden, perm=[0, 2, 3, 1])
    flat = model.op("Reshape", last, model.constant([1, 48], np.int64))
    weight = model.quant(rng.normal(size=(48, 5)) * 0.3, 0.1, 4, narrow=1)
    biased = model.op("Add", model.op("MatMul", flat, weight), model.constant(rng.normal(size=5)))
    output = model.quant(biased, 0.5, 4)

    found = assert_equal(model, output, tmp_path, frames(rng, (6, 5, 3)))

    assert found.graph.input_shape == (6, 5, 3)


def test_flattened_images_keep_the_order_of_channels_first(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    model = Model(SHAPE)
    acc = model.op("Relu", conv(model, model.quant("x", 0.05), rng))
    hidden = model.quant(model.op("Flatten", acc), 0.2, 4, signed=0)
    weight = model.quant(rng.normal(size=(5, 48)) * 0.3, 0.1, 4, narrow=1)
    output = model.quant(model.op("Gemm", hidden, weight, transB=1), 0.5, 4)

    assert_equal(model, output, tmp_path, frames(rng))


def test_affine_behind_a_pool_and_on_a_vector(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    hidden = model.quant(conv(model, model.quant("x", 0.05), rng), 0.3, 4)
    mean = model.op("GlobalAveragePool", hidden)
    second = model.quant(model.batch_norm(mean, 4, rng), 0.1, 4)
    flat = model.op("Flatten", second)
    shifted = model.op("Sub", model.constant(rng.normal(size=4)), flat)
    output = model.quant(shifted, 0.2, 4)

    found = assert_equal(model, output, tmp_path, frames(rng))

    assert [item.form for item in found.exactness] == ["thresholds"] * 3


@pytest.mark.parametrize("kind", ["ArgMax", "TopK"])
def test_pad_clip_and_argmax(kind: str, rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    x = model.quant("x", 0.05, signed=0, zero=120)
    x = model.op("Pad", x, model.constant([0, 1, 1, 0, 0, 0, 0, 2], np.int64))
    x = model.op("Clip", x, model.constant(-1.0), model.constant(1.5))
    hidden = model.quant(conv(model, x, rng, (4, 4, 3, 3)), 0.2, 4)
    weight = model.quant(rng.normal(size=(5, 100)), 0.1, 4, narrow=1)
    logits = model.op("Gemm", model.op("Flatten", hidden), weight, transB=1)
    if kind == "ArgMax":
        output = model.op("ArgMax", logits, axis=1)
    else:
        output = model.op("TopK", logits, model.constant([1], np.int64), outputs=2) + "_1"

    _, ours, real = run(model, output, tmp_path, frames(rng, count=50))

    np.testing.assert_array_equal(ours, real)
    assert len(np.unique(ours)) > 1


def test_a_quantiser_that_changes_nothing_makes_no_node(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    model = Model(SHAPE)
    hidden = model.quant(
        model.op("Relu", conv(model, model.quant("x", 0.05), rng)), 0.3, 4, signed=0
    )
    again = model.quant(model.op("Identity", model.op("Relu", hidden)), 0.3, 8, signed=0)
    output = model.quant(conv(model, again, rng, (2, 4, 3, 3)), 1.0, 4)

    found = assert_equal(model, output, tmp_path, frames(rng))

    assert len(found.graph.nodes) == 2
