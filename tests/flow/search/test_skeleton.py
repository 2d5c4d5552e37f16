"""Skeletons are the modules of a space after import and quantisation, but for their numbers."""

import subprocess
import sys

import numpy as np
import pytest

from tercet.flow.search.candidate import NetworkSpec, StageSpec
from tercet.flow.search.skeleton import skeleton
from tercet.quant import ranges, shapes


def spec(family, stages, head="flatten", weight_bits=6, act_bits=4, scheme="scale"):
    made = tuple(StageSpec(*stage) for stage in stages)
    return NetworkSpec(family, made, head, weight_bits, act_bits, scheme, (1, 8, 8), 10)


SPECS = [
    spec("chain", [(1, 8, 3), (2, 12, 1)]),
    spec("chain", [(1, 4, 3), (1, 4, 5), (1, 4, 3)], "mean", 4, 8, "pow2"),
    spec("residual", [(1, 1, 3), (2, 4, 5), (2, 4, 1)], "mean", 8, 8, "pow2"),
    spec("residual", [(2, 8, 3)], "flatten", 4, 4),
]


def described(graph):
    """Everything but weights, multipliers, shifts and real scales."""
    kinds = ranges.types(graph)
    return [
        (
            type(node).__name__,
            node.name,
            node.inputs,
            getattr(getattr(node, "weight", None), "shape", None),
            getattr(node, "weight_bits", None),
            getattr(node, "padding", None),
            (kinds[node.name].bits, kinds[node.name].signed) if node.name != "fc" else None,
            getattr(getattr(node, "requantize", node), "limits", None),
        )
        for node in graph
    ]


@pytest.mark.parametrize("one", SPECS, ids=lambda one: f"{one.family}-{len(one.stages)}")
def test_equals_the_module_after_import_and_quantisation(one):
    from tercet.flow.search.networks import imported, module
    from tercet.quant.quantize import QuantConfig, quantize

    images = np.random.default_rng(0).random((8, 1, 8, 8))
    config = QuantConfig(
        weight_bits=one.weight_bits, act_bits=one.act_bits, scheme=one.scheme, m_bits=16
    )
    real = quantize(imported(module(one), one), images, config)

    made = skeleton(one)
    assert described(made) == described(real)
    assert shapes.infer(made) == shapes.infer(real)
    assert made.name == real.name
    assert (made.input_name, made.input_type.bits) == (real.input_name, real.input_type.bits)


@pytest.mark.parametrize("one", SPECS, ids=lambda one: f"{one.family}-{len(one.stages)}")
def test_weights_fill_their_bits_and_results_their_types(one):
    made = skeleton(one)
    found, kinds = ranges.infer(made), ranges.types(made)

    top = (1 << (one.weight_bits - 1)) - 1
    for node in made:
        if hasattr(node, "weight"):
            rows = np.abs(node.weight.reshape(len(node.weight), -1))
            assert (rows.max(axis=1) == top).all()
        if node.name != "fc":
            reached = found[node.name].lo, found[node.name].hi
            assert reached[1] == kinds[node.name].hi
            assert node.name.endswith(("conv2", "skip")) or reached[0] == 0


def test_equal_layers_of_two_networks_are_equal():
    one, other = skeleton(SPECS[0]), skeleton(spec("chain", [(1, 8, 3), (1, 4, 5)], "mean"))
    first, second = (graph.node("s1b1_conv") for graph in (one, other))

    assert (first.weight == second.weight).all()
    assert (first.requantize.multiplier == second.requantize.multiplier).all()


def test_pow2_scales_without_multiplying():
    node = skeleton(SPECS[1]).node("s2b1_conv")

    assert (node.requantize.multiplier == 1).all()


def test_needs_neither_torch_nor_amaranth():
    code = (
        "import sys\nimport tercet.flow.search.skeleton, tercet.flow.search.batch\n"
        "print([name for name in ('torch', 'amaranth') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
