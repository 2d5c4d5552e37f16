"""The zoo: published sizes, and every network through import, quantisation and both executors."""

import functools
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tercet.quant import execute, ir, ranges, reference, serialize
from tercet.quant import float_graph as fg
from tercet.quant.errors import InputError
from tercet.quant.importers.model_file import load_model
from tercet.quant.importers.torch_module import import_torch
from tercet.quant.models import zoo
from tercet.quant.models.densenet import densenet
from tercet.quant.models.resnet import load_resnet20, resnet20
from tercet.quant.quantize import QuantConfig, quantize, quantize_input
from tercet.quant.train import predict

FOLDER = Path(zoo.__file__).parent
SMALL = ("lenet5", "resnet8", "dscnn", "autoencoder")
LARGE = ("resnet20", "densenet", "mobilenet")
EACH = pytest.mark.parametrize(
    "name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
)


@functools.cache
def calibrated(name):
    """Module with settled batch norms, images and the integer graph."""
    entry = zoo.entry(name)
    module, _ = zoo.network(name)
    x = zoo.synthetic(entry.input_shape, 24)
    zoo.settle(module, x)
    graph = quantize(import_torch(module, entry.input_shape), x, QuantConfig())
    return module, x, graph


@pytest.mark.parametrize("name", zoo.ZOO)
def test_parameters_are_as_published(name):
    entry = zoo.entry(name)
    module, example = zoo.network(name)

    assert zoo.parameters(module, statistics=entry.statistics) == entry.parameters
    assert example.shape == (1, *entry.input_shape)


def test_published_figures_count_moving_statistics_where_keras_made_them():
    counts = {
        name: zoo.parameters(zoo.network(name)[0], statistics=True)
        for name in ("resnet8", "dscnn", "mobilenet", "autoencoder")
    }

    assert counts == {
        "resnet8": 78_666,
        "dscnn": 24_908,
        "mobilenet": 219_058,
        "autoencoder": 269_992,
    }
    module, _ = zoo.network("resnet20")
    assert zoo.parameters(module, statistics=False) == 269_722
    assert zoo.parameters(module, statistics=True) == 269_722 + 2 * 688


@EACH
def test_every_layer_follows_its_float_layer(name):
    """Layer by layer on the integers' real values: random networks amplify what came before."""
    module, x, graph = calibrated(name)
    source = import_torch(module, zoo.entry(name).input_shape)
    integers = reference.execute(graph, quantize_input(graph, x))
    kinds = ranges.types(graph)
    values = {graph.input_name: real(integers[graph.input_name], graph.input_type)}
    for node in source:
        want = fg._RULES[type(node)](node, *(values[i] for i in node.inputs))
        want = want.clamp(node.lo, node.hi)
        got = want if isinstance(node, fg.Flatten) else real(integers[node.name], kinds[node.name])
        values[node.name] = got

        correlation = np.corrcoef(want.ravel(), got.ravel())[0, 1]
        assert correlation > 0.9985, (node.name, correlation)
        if kinds[node.name].scale is not None:
            assert ((got - want) ** 2).mean() < 0.003 * want.var(), node.name


def real(integers, kind):
    """Real values, channels first; raw accumulators without a scale stay integers."""
    values = torch.from_numpy((integers - kind.zero_point) * (kind.scale or 1.0)).float()
    return values.permute(0, 3, 1, 2) if values.dim() == 4 else values


@pytest.mark.parametrize("name", ["lenet5", "resnet8", "dscnn"])
def test_integer_graph_follows_the_module(name):
    module, x, graph = calibrated(name)
    scores = predict(module, x)
    got = reference.run(graph, quantize_input(graph, x))

    assert np.corrcoef(scores.ravel(), got.ravel())[0, 1] > 0.995
    assert (scores.argmax(axis=1) == got.argmax(axis=1)).mean() > 0.85


@EACH
def test_torch_executor_equals_the_reference(name):
    _, x, graph = calibrated(name)
    integers = quantize_input(graph, x[:2])
    want, got = reference.execute(graph, integers), execute.execute(graph, integers)

    for tensor, values in want.items():
        np.testing.assert_array_equal(values, got[tensor], err_msg=tensor)


@EACH
def test_a_layer_saturates_seldom_and_is_not_constant(name):
    _, x, graph = calibrated(name)
    values = reference.execute(graph, quantize_input(graph, x[:8]))
    kinds = ranges.types(graph)

    for node in graph:
        tensor = values[node.name]
        assert np.ptp(tensor) >= min(40, 1 << kinds[node.name].bits - 2), node.name
        assert (tensor == kinds[node.name].hi).mean() < 0.05, node.name


@pytest.mark.parametrize(
    ("name", "macs"), [("lenet5", 416_520), ("resnet8", 12_501_632), ("autoencoder", 264_192)]
)
def test_macs_count_every_window(name, macs):
    assert zoo.macs(calibrated(name)[2]) == macs


def test_synthetic_inputs_have_their_shape_and_differ():
    for shape in ((1, 49, 10), (3, 32, 32), (640,)):
        x = zoo.synthetic(shape, 5)

        assert (x.shape, x.dtype) == ((5, *shape), np.float32)
        assert (x == zoo.synthetic(shape, 5)).all()
        assert np.abs(np.corrcoef(x.reshape(5, -1)) - np.eye(5)).max() < 0.9


def test_a_saved_graph_loads_equal(tmp_path):
    _, _, graph = calibrated("autoencoder")
    serialize.save(graph, tmp_path / "graph.json")

    assert serialize.digest(serialize.load(tmp_path / "graph.json")) == serialize.digest(graph)


def test_dense_blocks_pass_their_channels_unchanged():
    module = densenet(depth=7)
    x = np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype(np.float32)
    zoo.settle(module, x)
    graph = quantize(import_torch(module, (3, 16, 16)), x, QuantConfig())
    joins = [node for node in graph if isinstance(node, ir.Concat)]

    assert len(joins) == 3
    assert all(table is None for join in joins for table in join.requantize)


def test_shortcuts_of_option_a_are_slices_and_empty_channels():
    graph = import_torch(resnet20(), (3, 32, 32))
    x = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    graph = quantize(graph, x, QuantConfig())
    slices = [node for node in graph if isinstance(node, ir.MaxPool)]
    pads = [node for node in graph if isinstance(node, ir.Pad)]
    adds = [node for node in graph if isinstance(node, ir.Add)]

    assert [(s.kernel, s.stride) for s in slices] == [((1, 1), (2, 2))] * 2
    assert [p.channels for p in pads] == [(8, 8), (16, 16)]
    assert [add.lo - add.out.zero_point for add in adds] == [0] * 9


def test_same_seed_same_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    want = torch.rand(2)
    torch.manual_seed(5)
    first, second, other = (zoo.network("resnet8", seed)[0].conv1.weight for seed in (1, 1, 2))

    assert (torch.rand(2) == want).all()
    assert (first == second).all()
    assert (first != other).any()


def test_unknown_network_lists_the_names():
    with pytest.raises(InputError, match=r"no network vgg.*lenet5, resnet8"):
        zoo.network("vgg")


def test_depth_of_a_densenet_is_checked():
    with pytest.raises(ValueError, match="depth must be 3 n"):
        densenet(depth=12)


def test_checkpoint_of_resnet20_loads(tmp_path):
    module = resnet20(seed=4)
    state = {f"module.{key}": value for key, value in module.state_dict().items()}
    torch.save({"state_dict": state, "best_prec1": 1.0}, tmp_path / "weights.th")
    loaded = load_resnet20(tmp_path / "weights.th")

    assert (loaded.layer3[2].conv2.weight == module.layer3[2].conv2.weight).all()
    assert not loaded.training


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"conv1.weight": torch.zeros(2)}}, "bad.th: is no checkpoint of ResNet-20"),
        (None, "bad.th: cannot be read: No such file"),
        (b"\x80\x04.", "bad.th: is no checkpoint of ResNet-20"),
    ],
)
def test_bad_checkpoint_is_one_line(tmp_path, content, message):
    path = tmp_path / "bad.th"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)

    with pytest.raises(ValueError, match=message) as caught:
        load_resnet20(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_the_zoo_is_a_model_on_the_command_line(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 1, 28, 28))
    np.savez(tmp_path / "x.npz", x=x)
    graph = load_model(f"{FOLDER / 'lenet.py'}:lenet5", calibration=tmp_path / "x.npz")

    assert graph.name == "lenet5"
    assert graph.input_shape == (28, 28, 1)
    assert graph.output == "fc3"


@pytest.mark.parametrize(
    "stem", ["autoencoder", "densenet", "dscnn", "lenet", "mobilenet", "resnet"]
)
def test_files_of_the_zoo_load_without_torch(stem, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = importlib.util.spec_from_file_location(f"_zoo_{stem}", FOLDER / f"{stem}.py")
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)

    assert loaded.__all__
