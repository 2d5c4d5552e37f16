# amaranth: UnusedElaboratable=no
"""A whole layer in triplicate: the plain layer in every cycle, whatever is struck."""

import numpy as np
import pytest

from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.top import layer_component
from tercet.quant import ir

from .miter import Claim, one_replica_deviates
from .proof import Proof, first_replica_only, name, prove, refute

FULL = Protection(neurons=(0, 1, 2, 3), control="tmr", post="tmr")
OUTPUTS = ("i__ready", "o__valid", "o__payload")


def convolution(guard):
    """A convolution of 2x2 windows, four neurons on two lanes, requantised to two bits."""
    rng = np.random.default_rng(0)
    scale = ir.Requantize(np.array([9]), np.array([5]), ir.TensorType(2, False))
    node = ir.Conv2d(
        name="x", inputs=("i",), weight=rng.integers(-2, 2, (4, 2, 2, 2)), bias=np.arange(4),
        weight_bits=2, requantize=scale,
    )  # fmt: skip
    graph = ir.Graph("g", "i", (3, 3, 2), ir.TensorType(2, False, 1), (node,), "x")
    return layer_component(configure(graph, {"x": Fold(2, 2)}, {"x": guard})[0])


PROOFS = [
    Proof(
        unit="convolution, all in triplicate",
        struck="every register of three replicas",
        text="every output = plain layer's; at most one replica ever differs",
        claim=Claim(equal=OUTPUTS),
        golden=lambda: convolution(Protection()),
        faulty=lambda: convolution(FULL),
        chosen=lambda register: register.replica is not None,
        invariant=one_replica_deviates,
        broken=first_replica_only,
        breakage="voter y = a",
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("proof", PROOFS, ids=name)
def test_holds(proof, tmp_path, report):
    answer, bits = prove(proof, tmp_path)

    report(proof, answer, bits)
    assert answer.proved


@pytest.mark.parametrize("proof", PROOFS, ids=name)
@pytest.mark.slow
def test_fails_with_broken_voters(proof, tmp_path, report):
    cycles, intact = refute(proof, tmp_path)

    report(proof, cycles)
    assert intact == 0


def test_what_is_struck_is_all_but_the_activation_register(tmp_path):
    """The claim above speaks of replicas: this register and the memories have none."""
    miter = PROOFS[0].miter(tmp_path)

    alone = [register.path for register in miter.faulty.registers if register.replica is None]
    assert alone == ["window.act_0"]
    assert miter.bits > 600
