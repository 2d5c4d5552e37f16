"""Layers of QONNX models against their meaning in real numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.quant import ir

from .qonnx_models import QONNX, SHAPE, Model, assert_equal, conv, form, frames, run


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_few_bits_are_exact_behind_batch_norm_and_relu(
    bits: int, rng: np.random.Generator, tmp_path: Path
) -> None:
    model = Model(SHAPE)
    acc = conv(model, model.quant("x", 0.05), rng, pads=[1, 1, 1, 1])
    output = model.quant(model.op("Relu", model.batch_norm(acc, 4, rng)), 0.31, bits, signed=0)

    found = assert_equal(model, output, tmp_path, frames(rng))

    assert form(found, "conv_2") == "thresholds"


def test_eight_bits_differ_by_one_step_at_most(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    weight = model.quant(rng.normal(size=(4, 3, 3, 3)), 0.02, narrow=1)
    acc = model.op("Conv", model.quant("x", 0.02), weight)
    output = model.quant(model.batch_norm(acc, 4, rng), 0.05)

    found, ours, real = run(model, output, tmp_path, frames(rng, count=400))

    statement = next(item for item in found.exactness if item.layer == "conv_2")
    assert np.abs(ours - real).max() < 1.001
    assert (np.abs(ours - real) > 0.5).mean() == pytest.approx(statement.share, rel=0.5)
    assert statement.largest == 1
    assert 0 < statement.share < 0.005


def test_gains_far_apart(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    weight = model.quant(rng.normal(size=(8, 3, 3, 3)), 0.02, narrow=1)
    acc = model.op("Conv", model.quant("x", 0.02), weight)
    gains = np.array([3.0, -1e-1, 1e-2, 1e-3, -1e-4, 1e-6, 1e-20, 1e-30])
    output = model.quant(model.batch_norm(acc, 8, rng, gains), 0.05)

    found, ours, real = run(model, output, tmp_path, frames(rng, count=100))

    assert np.abs(ours - np.rint(real)).max() <= 1
    assert (ours != np.rint(real)).mean() < 0.01
    assert found.exactness[0].largest == 1
    assert not found.graph.node("conv_2").weight[-2:].any()


def test_quantised_bias_and_power_of_two_scales_round_half_up(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    model = Model(SHAPE)
    weight = model.quant(rng.normal(size=(4, 3, 3, 3)) * 0.4, 0.125, 4, narrow=1)
    bias = model.quant(rng.normal(size=4), 0.125 * 0.0625, 32)
    acc = model.op("Conv", model.quant("x", 0.0625), weight, bias)
    output = model.quant(acc, 0.0625)

    found, ours, real = run(model, output, tmp_path, frames(rng, count=100))

    share = (np.abs(ours - real) > 0.5).mean()
    (statement,) = found.exactness
    assert np.abs(ours - real).max() == 1
    assert share == pytest.approx(statement.share, rel=0.2)  # every second tie: 1 in 16
    assert statement.share == pytest.approx(1 / 16, rel=0.1)


@pytest.mark.parametrize("mode", ["FLOOR", "CEIL", "ROUND"])
def test_rounding_modes_of_eight_bits(mode: str, rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    weight = model.quant(rng.normal(size=(4, 3, 1, 1)) * 0.4, 0.125, 4, narrow=1)
    acc = model.op("Conv", model.quant("x", 0.0625, mode="ROUND"), weight)
    output = model.quant(acc, 0.109375, mode=mode)

    found, ours, real = run(model, output, tmp_path, frames(rng))

    assert np.abs(ours - real).max() < 1.001
    assert (np.abs(ours - real) > 0.5).mean() <= found.exactness[0].share + 0.01
    assert found.exactness[0].share < 0.05


def test_depthwise_with_a_zero_point(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    x = model.quant("x", 0.03, signed=0, zero=117)
    acc = conv(model, x, rng, (3, 1, 3, 3), 2, group=3, pads=[1, 1, 1, 1], strides=[2, 1])
    output = model.quant(acc, 0.2, 4, signed=0, zero=6)

    found = assert_equal(model, output, tmp_path, frames(rng))

    assert found.graph.input_type.zero_point == 117


def test_flat_and_falling_channels(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    acc = conv(model, model.quant("x", 0.05), rng)
    gains = np.array([0.0, -1.0, 0.0, 2.0])
    output = model.quant(model.batch_norm(acc, 4, rng, gains), 0.3, 4)

    found = assert_equal(model, output, tmp_path, frames(rng))

    assert not found.graph.node("conv_2").weight[[0, 2]].any()


@pytest.mark.parametrize("gain", [1.0, 0.0])
def test_bipolar_layers(gain: float, rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    weight = model.bipolar(rng.normal(size=(4, 3, 3, 3)), 0.1)
    acc = model.op("Conv", model.bipolar("x"), weight)
    hidden = model.op(
        "Flatten", model.bipolar(model.batch_norm(acc, 4, rng, np.array([1, -1, 0.5, gain])), 0.5)
    )
    second = model.bipolar(rng.normal(size=(7, 48)))
    output = model.bipolar(model.op("Gemm", hidden, second, transB=1))

    found = assert_equal(model, output, tmp_path, frames(rng))

    assert found.graph.input_type.bipolar
    assert all(
        node.weight_bipolar for node in found.graph if isinstance(node, ir.Conv2d | ir.Dense)
    )


@pytest.mark.parametrize("mode", ["FLOOR", "ROUND"])
@pytest.mark.parametrize("version", [1, 2])
def test_trunc_behind_a_pool(
    version: int, mode: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    model = Model(SHAPE)
    acc = conv(model, model.quant("x", 0.05), rng, pads=[1, 1, 1, 1])
    hidden = model.quant(model.op("Relu", acc), 0.1, 4, signed=0)
    mean = model.op("AveragePool", hidden, kernel_shape=[2, 2])
    if version == 1:
        mean = model.op("Mul", mean, model.constant(4.0))
        rest, scale = (6, 4), 0.1
    else:
        rest, scale = (6, np.float32(0.1), 4), np.float32(0.1) / 4
    operands = map(model.constant, (scale, 0, *rest))
    more = {"signed": 0, "narrow": 0} if version == 2 else {}
    output = model.op("Trunc", mean, *operands, domain=QONNX, rounding_mode=mode, **more)

    assert_equal(model, output, tmp_path, frames(rng))


def test_trunc_of_eight_bits_floors_exactly(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    mean = model.op("AveragePool", model.quant("x", 0.05), kernel_shape=[2, 2])
    operands = map(model.constant, (np.float32(0.05) / 4, 0, 10, np.float32(0.05), 8))
    output = model.op("Trunc", mean, *operands, domain=QONNX, rounding_mode="FLOOR")

    found = assert_equal(model, output, tmp_path, frames(rng))

    assert found.exactness[0].exact


@pytest.mark.parametrize(
    ("steps", "scale", "bias", "kind"),
    [
        (15, 1.0, -8.0, ir.TensorType(4, True, scale=1.0)),
        (7, 0.5, 0.0, ir.TensorType(3, False, scale=0.5)),
        (1, 2.0, -1.0, ir.TensorType(1, True, bipolar=True, scale=1.0)),
        (1, 1.0, 0.0, ir.TensorType(1, False, scale=1.0)),
        (6, 1.0, -3.0, ir.TensorType(3, True, scale=1.0)),
        (3, 1.0, -1.0, ir.TensorType(2, False, 1, scale=1.0)),
    ],
)
def test_multi_threshold(
    steps: int, scale: float, bias: float, kind: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    model = Model(SHAPE)
    acc = conv(model, model.quant("x", 0.05), rng)
    rows = model.constant(np.sort(rng.normal(size=(4, steps)) * 2, axis=1))
    output = model.op(
        "MultiThreshold", acc, rows, domain=QONNX, out_scale=scale, out_bias=bias, out_dtype="INT4"
    )

    found = assert_equal(model, output, tmp_path, frames(rng))

    assert found.graph.node("conv_2").requantize.out == kind


def test_even_thresholds_of_eight_bits_become_a_multiplier(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    model = Model(SHAPE)
    acc = conv(model, model.quant("x", 0.03), rng, bits=6)
    rows = model.constant((np.arange(255)[None] - 100.3) * 0.11)
    output = model.op("MultiThreshold", acc, rows, domain=QONNX, out_bias=-128.0)

    found, ours, real = run(model, output, tmp_path, frames(rng))

    assert (np.abs(ours - real) > 0.5).mean() < 0.003
    assert found.exactness[0].form == "rescaled"


def test_narrow_input_is_clamped(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    x = model.quant("x", 1.0, 2, narrow=1)
    output = model.quant(conv(model, x, rng), 0.3, 4)

    found = assert_equal(model, output, tmp_path, 2 * frames(rng))

    assert found.graph.input_type.lo == -2
    assert found.graph.nodes[0].requantize.limits == (-1, 1)


def test_input_scaled_before_its_quantiser(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    x = model.quant(model.op("Div", "x", model.constant(255.0)), 2.0**-8, signed=0)
    output = model.quant(conv(model, x, rng), 0.3, 4)
    pixels = rng.integers(0, 256, (20, *SHAPE)).astype(np.float32)

    found = assert_equal(model, output, tmp_path, pixels)

    assert found.graph.input_type.scale == pytest.approx(255 / 256)
