"""QONNX models against their meaning in real numbers: equal integers, or the share that differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.quant import ir
from tercet.quant.importers.onnx_quantised import Imported
from tercet.quant.importers.qonnx import convert
from tercet.quant.quantize import quantize_input
from tercet.quant.reference import Reference

from .qonnx_models import QONNX, Model, evaluate

SHAPE = (3, 6, 5)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def frames(rng: np.random.Generator, shape: tuple[int, ...] = SHAPE, count: int = 20) -> Any:
    return rng.normal(size=(count, *shape)).astype(np.float32)


def run(model: Model, output: str, folder: Path, x: Any) -> tuple[Imported, Any, Any]:
    """The import, our integers and the model's, both channels last."""
    onnx = model.graph(output, folder)
    found = convert(onnx)
    graph = found.graph
    reference = Reference(graph)
    last = graph.input_shape == onnx.input_shape[1:] and x.ndim == 4
    ours = reference.run(quantize_input(graph, x.transpose(0, 3, 1, 2) if last else x))
    real = evaluate(onnx, x)[output]
    real = real.transpose(0, 2, 3, 1) if real.ndim == 4 else real
    kind = reference.types[graph.output]
    if kind.scale is not None:
        real = real / kind.scale + kind.zero_point
    return found, ours, real.reshape(ours.shape)


def assert_equal(model: Model, output: str, folder: Path, x: Any) -> Imported:
    found, ours, real = run(model, output, folder, x)
    wanted = np.rint(real)
    assert np.abs(real - wanted).max() < 1e-6
    assert len(np.unique(ours)) > 1
    np.testing.assert_array_equal(ours, wanted)
    return found


def form(found: Imported, layer: str) -> str:
    return next(item.form for item in found.exactness if item.layer == layer)


def conv(
    model: Model, x: str, rng: Any, shape: Any = (4, 3, 3, 3), bits: int = 4, **more: Any
) -> str:
    scale = rng.uniform(0.05, 0.2, (shape[0], 1, 1, 1))
    weight = model.quant(rng.normal(size=shape) * 0.4, scale, bits, narrow=1)
    return model.op("Conv", x, weight, **more)


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


def test_bipolar_layers(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    weight = model.bipolar(rng.normal(size=(4, 3, 3, 3)), 0.1)
    acc = model.op("Conv", model.bipolar("x"), weight)
    hidden = model.op("Flatten", model.bipolar(model.batch_norm(acc, 4, rng), 0.5))
    second = model.bipolar(rng.normal(size=(7, 48)))
    output = model.bipolar(model.op("Gemm", hidden, second, transB=1))

    found = assert_equal(model, output, tmp_path, frames(rng))

    assert found.graph.input_type.bipolar
    assert all(
        node.weight_bipolar for node in found.graph if isinstance(node, ir.Conv2d | ir.Dense)
    )


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


def test_pad_clip_and_argmax(rng: np.random.Generator, tmp_path: Path) -> None:
    model = Model(SHAPE)
    x = model.quant("x", 0.05, signed=0, zero=120)
    x = model.op("Pad", x, model.constant([0, 1, 1, 0, 0, 0, 0, 2], np.int64))
    x = model.op("Clip", x, model.constant(-1.0), model.constant(1.5))
    hidden = model.quant(conv(model, x, rng, (4, 4, 3, 3)), 0.2, 4)
    weight = model.quant(rng.normal(size=(5, 100)), 0.1, 4, narrow=1)
    logits = model.op("Gemm", model.op("Flatten", hidden), weight, transB=1)
    output = model.op("ArgMax", logits, axis=1)

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
