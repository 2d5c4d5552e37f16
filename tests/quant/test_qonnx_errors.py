"""QONNX models that cannot be expressed: one line that names the node and the fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.quant.importers.qonnx import convert

from .qonnx_models import QONNX, Model

SHAPE = (3, 6, 5)
RNG = np.random.default_rng(3)


def _conv(model: Model, x: str, weight: str | None = None) -> str:
    weight = weight or model.quant(RNG.normal(size=(4, 3, 3, 3)), 0.3, 4, narrow=1)
    return model.op("Conv", x, weight)


def _activation(**options: object) -> Callable[[Model], str]:
    """A convolution behind which stands a quantiser with these options."""

    def build(model: Model) -> str:
        acc = _conv(model, model.quant("x", 0.05))
        return model.quant(acc, **{"scale": 0.3, "bits": 8, **options})  # type: ignore[arg-type]

    return build


def _dynamic_scale(model: Model) -> str:
    x = model.quant("x", 0.05)
    scale = model.op("GlobalAveragePool", x)
    return model.op("Quant", x, scale, model.constant(0), model.constant(8), domain=QONNX)


def _float_weight(model: Model) -> str:
    return _conv(model, model.quant("x", 0.05), model.constant(RNG.normal(size=(4, 3, 3, 3))))


def _wide_weight(model: Model) -> str:
    weight = model.quant(RNG.normal(size=(4, 3, 3, 3)), 0.01, 9)
    return _conv(model, model.quant("x", 0.05), weight)


def _weight_zero_point(model: Model) -> str:
    weight = model.quant(RNG.normal(size=(4, 3, 3, 3)), 0.01, 8, signed=0, zero=3)
    return _conv(model, model.quant("x", 0.05), weight)


def _weight_scale_by_input(model: Model) -> str:
    weight = model.quant(RNG.normal(size=(4, 3, 3, 3)), RNG.uniform(0.1, 1, (1, 3, 1, 1)), 4)
    return _conv(model, model.quant("x", 0.05), weight)


def _float_input(model: Model) -> str:
    return _conv(model, "x")


def _floored_input(model: Model) -> str:
    return _conv(model, model.quant("x", 0.05, mode="FLOOR"))


def _two_inputs(model: Model) -> str:
    return model.op("Add", model.quant("x", 0.05), model.quant("x", 0.06))


def _unquantised(model: Model) -> str:
    first = model.op("Relu", _conv(model, model.quant("x", 0.05)))
    return _conv(model, first, model.quant(RNG.normal(size=(4, 4, 1, 1)), 0.3, 4))


def _unquantised_sum(model: Model) -> str:
    x = model.quant("x", 0.05)
    return model.quant(model.op("Add", _conv(model, x), _conv(model, x)), 0.3)


def _outputs_by_channel(model: Model) -> str:
    weight = model.quant(RNG.normal(size=(4, 3, 3, 3)), RNG.uniform(0.1, 1, (4, 1, 1, 1)), 4)
    return _conv(model, model.quant("x", 0.05), weight)


def _clamped_outputs(model: Model) -> str:
    return model.op("Relu", _conv(model, model.quant("x", 0.05)))


def _padded_bipolar(model: Model) -> str:
    weight = model.bipolar(RNG.normal(size=(4, 3, 3, 3)))
    acc = model.op("Conv", model.bipolar("x"), weight, pads=[1, 1, 1, 1])
    return model.bipolar(acc)


def _clamp_then_batch_norm(model: Model) -> str:
    act = model.op("Relu", _conv(model, model.quant("x", 0.05)))
    return model.quant(model.batch_norm(act, 4, RNG), 0.3, 8)


def _turned_minimum(model: Model) -> str:
    weight = np.full((4, 3, 3, 3), -128.0)
    acc = _conv(model, model.quant("x", 0.05), model.quant(weight, 1.0, 8))
    return model.quant(model.op("Neg", acc), 100.0)


def _bipolar_sum(model: Model) -> str:
    x = model.quant("x", 0.05)
    other = model.op("Mul", x, model.constant(0.7))
    return model.bipolar(model.op("Add", x, other))


def _softmax_inside(model: Model) -> str:
    act = model.quant(_conv(model, model.quant("x", 0.05)), 0.3)
    return model.quant(model.op("Softmax", act), 0.1)


def _one_dimensional(model: Model) -> str:
    weight = model.quant(RNG.normal(size=(4, 3, 3)), 0.3, 4)
    return _conv(model, model.quant("x", 0.05), weight)


def _uneven_thresholds(model: Model) -> str:
    rows = model.constant(np.sort(RNG.normal(size=(5, 15)), axis=1))
    return model.op("MultiThreshold", _conv(model, model.quant("x", 0.05)), rows, domain=QONNX)


def _trunc_off_the_grid(model: Model) -> str:
    operands = map(model.constant, (0.033, 0, 8, 0.066, 8))
    return model.op("Trunc", model.quant("x", 0.05), *operands, domain=QONNX)


CASES: list[tuple[Callable[[Model], str], str, str]] = [
    (_activation(bits=9), "quant_3 (Quant)", "1..8 are supported here, train with fewer"),
    (_activation(bits=3.5), "quant_3 (Quant)", "one whole number"),
    (
        _activation(scale=RNG.uniform(0.1, 1, (1, 4, 1, 1))),
        "quant_3",
        "one scale a tensor",
    ),
    (_activation(scale=-0.1), "quant_3 (Quant)", "must be positive"),
    (_activation(zero=0.5), "quant_3 (Quant)", "zero point 0.5 must be a whole number"),
    (_activation(zero=300), "quant_3 (Quant)", "in -128..127"),
    (_activation(mode="STOCHASTIC"), "quant_3 (Quant)", "use one of ROUND"),
    (_activation(mode="DOWN"), "conv_2", "round with ROUND, FLOOR or CEIL"),
    (_dynamic_scale, "quant_2 (Quant)", "it must be constant"),
    (_float_weight, "conv_1 (Conv)", "use a Quant layer"),
    (_wide_weight, "conv_2 (Conv)", "use 2..8 bits and no zero point"),
    (_weight_zero_point, "conv_2 (Conv)", "use 2..8 bits and no zero point"),
    (_weight_scale_by_input, "conv_2 (Conv)", "one a channel at most"),
    (_float_input, "conv_1 (Conv)", "put a Quant (QuantIdentity) first"),
    (_floored_input, "quant_0 (Quant)", "rounding_mode ROUND"),
    (_two_inputs, "quant_1 (Quant)", "use one QuantIdentity for all"),
    (_unquantised, "conv_5 (Conv)", "put a Quant"),
    (_unquantised_sum, "add_5 (Add)", "put a Quant"),
    (_outputs_by_channel, "conv_2", "one weight scale"),
    (_clamped_outputs, "conv_2", "give this layer an output quantiser"),
    (_padded_bipolar, "conv_2", "cannot be padded"),
    (_clamp_then_batch_norm, "conv_2", "clamps its channels differently"),
    (_turned_minimum, "conv_2", "narrow range"),
    (_bipolar_sum, "add_2", "put a QuantIdentity there"),
    (_softmax_inside, "softmax_4 (Softmax)", "end of the network only"),
    (_one_dimensional, "conv_2 (Conv)", "2-D layers"),
    (_uneven_thresholds, "multithreshold_3", "(4 or 1, 1..255)"),
    (_trunc_off_the_grid, "trunc_1 (Trunc)", "grid of its scale"),
]


@pytest.mark.parametrize(("build", "node", "fix"), CASES)
def test_names_node_and_fix(
    build: Callable[[Model], str], node: str, fix: str, tmp_path: Path
) -> None:
    model = Model(SHAPE)
    onnx = model.graph(build(model), tmp_path)

    with pytest.raises(InputError) as caught:
        convert(onnx)

    message = str(caught.value)
    assert node in message
    assert fix in message
    assert "\n" not in message
