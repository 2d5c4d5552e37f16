"""Lists of tensor faults: written by hand, put together, kept, replayed, refused."""

import dataclasses

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.quant.faults import LAST, Op, Tensor, TensorFault, TensorFaults

WEIGHT = TensorFault("fc", Tensor.WEIGHT, 3, 0b100)
PRODUCT = TensorFault("conv", Tensor.PRODUCT, 7, 1, Op.SET, step=2, span=3, width=12)


def same(one, other):
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        for field in dataclasses.fields(one)
    )


def test_a_list_by_hand_has_the_fields_of_its_faults():
    faults = TensorFaults.listed([[WEIGHT, PRODUCT], [PRODUCT]], [4, 1])

    assert len(faults) == 2
    assert faults.layers == ("fc", "conv")
    assert faults.frame.tolist() == [4, 1]
    assert faults.experiment.tolist() == [0, 0, 1]
    assert faults.layer.tolist() == [0, 1, 1]
    assert faults.tensor.tolist() == [Tensor.WEIGHT, Tensor.PRODUCT, Tensor.PRODUCT]
    assert faults.step.tolist() == [LAST, 2, 2]
    assert faults.span.tolist() == [1, 3, 3]
    assert faults.width.tolist() == [0, 12, 12]
    assert faults.op.tolist() == [Op.FLIP, Op.SET, Op.SET]


def test_columns_are_sorted_by_experiment_and_keep_their_order():
    faults = TensorFaults.build(
        ["a"], [0, 0], [1, 0, 1], 0, tensor=int(Tensor.BIAS), index=[5, 6, 7], value=1
    )

    assert faults.experiment.tolist() == [0, 1, 1]
    assert faults.index.tolist() == [6, 5, 7]


def test_persistent_faults_run_on_every_input():
    faults = TensorFaults.listed([[WEIGHT], [PRODUCT, WEIGHT]], [0, 0]).on_every(3)

    assert faults.frame.tolist() == [0, 1, 2, 0, 1, 2]
    assert faults.experiment.tolist() == [0, 1, 2, 3, 3, 4, 4, 5, 5]
    assert faults.index.tolist() == [3, 3, 3, 7, 3, 7, 3, 7, 3]


def test_parts_are_joined_and_taken_apart():
    one = TensorFaults.single([WEIGHT, PRODUCT], 2)
    other = TensorFaults.single([PRODUCT], 5)

    both = TensorFaults.joined([one, other])

    assert both.frame.tolist() == [2, 2, 5]
    assert both.layers[both.layer[2]] == "conv"
    assert both.taken(np.array([2])).index.tolist() == [7]
    assert both.taken(np.array([0, 2])).experiment.tolist() == [0, 1]


def test_two_laws_strike_the_same_inferences():
    one, other = TensorFaults.single([WEIGHT, WEIGHT], 1), TensorFaults.single([PRODUCT] * 2, 1)

    both = one.merged(other)

    assert both.experiment.tolist() == [0, 0, 1, 1]
    assert [both.layers[i] for i in both.layer] == ["fc", "conv", "fc", "conv"]
    with pytest.raises(InputError, match="must have the same inputs"):
        one.merged(TensorFaults.single([PRODUCT] * 2, 0))


def test_a_kept_list_is_the_same(tmp_path):
    faults = TensorFaults.listed([[WEIGHT, PRODUCT], [], [PRODUCT]], [4, 1, 0])
    faults.save(tmp_path / "faults.npz")

    assert same(TensorFaults.load(tmp_path / "faults.npz"), faults)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("layer", [0, 2, 0], r"layer numbers must lie in 0\.\.1"),
        ("experiment", [0, 0, 9], r"experiment numbers must lie in 0\.\.1"),
        ("experiment", [1, 0, 1], "must be sorted by experiment"),
        ("value", [1, 2], "differ in length"),
        ("value", [0.5, 1, 2], "must be int64 vectors"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, column, values, message):
    faults = TensorFaults.listed([[WEIGHT, PRODUCT], [PRODUCT]], [0, 0])
    faults.save(tmp_path / "faults.npz")
    columns = dict(np.load(tmp_path / "faults.npz"))
    np.savez(tmp_path / "broken.npz", **(columns | {column: np.array(values)}))

    with pytest.raises(InputError, match=rf"broken.npz: .*{message}"):
        TensorFaults.load(tmp_path / "broken.npz")
