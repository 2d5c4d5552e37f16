"""The torch importer: every operator against torch itself, and what it refuses."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tercet.quant import float_graph as fg
from tercet.quant.errors import InputError
from tercet.quant.importers.torch_module import import_torch
from tercet.quant.train import predict


class Function(nn.Module):
    """A module that runs a function of (module, x), with named submodules."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def seeded(make):
    torch.manual_seed(1)
    module = make()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(part.weight, 1.0, 0.3)
            nn.init.normal_(part.bias)
    return module


def check(make, shape):
    """Import, compare with torch on random inputs, return the float graph."""
    module = seeded(make)
    graph = import_torch(module, shape)
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    want = predict(module, x)
    got = fg.execute(graph, x)[graph.output]

    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-4, atol=1e-5)
    for node in graph:
        assert fg.execute(graph, x)[node.name].shape[1:] == node.shape
    return graph


def kinds(graph):
    return [type(node) for node in graph]


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
        {"kernel_size": 3, "padding": "same", "dilation": 2},
        {"kernel_size": 2, "padding": "same"},
        {"kernel_size": 3, "padding": "valid", "bias": False},
        {"kernel_size": 3, "groups": 2, "padding": 1},
        {"kernel_size": 3, "groups": 4, "padding": 1},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_convolutions(options):
    graph = check(lambda: nn.Conv2d(4, 8, **options), (4, 7, 6))

    assert kinds(graph) == [fg.Conv]


def test_padding_as_large_as_the_window_becomes_a_node():
    graph = check(lambda: nn.Conv2d(1, 2, 1, padding=1), (1, 3, 4))

    assert kinds(graph) == [fg.Pad, fg.Conv]


def test_nested_modules_keep_their_paths_as_names():
    def make():
        features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
        return nn.Sequential(
            features, nn.Flatten(), nn.Dropout(0.5), nn.Identity(), nn.Linear(8, 3)
        )

    graph = check(make, (1, 4, 4))

    assert kinds(graph) == [fg.Conv, fg.Flatten, fg.Dense]
    assert [node.path for node in graph] == ["0.0", "1", "4"]
    assert [node.name for node in graph] == ["_0_0", "_1", "_4"]


def test_module_used_twice_gets_two_names():
    graph = check(lambda: Function(lambda m, x: m.fc(F.relu(m.fc(x))), fc=nn.Linear(4, 4)), (4,))

    assert len({node.name for node in graph}) == 2
    assert graph.nodes[0].lo == 0.0


def test_batch_norm_folds_into_convolution_and_linear():
    def make():
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, groups=2, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU6(),
            nn.Flatten(),
            nn.Linear(16, 5),
            nn.BatchNorm1d(5),
        )

    graph = check(make, (2, 4, 4))

    assert kinds(graph) == [fg.Conv, fg.Flatten, fg.Dense]
    assert (graph.nodes[0].lo, graph.nodes[0].hi) == (0.0, 6.0)


@pytest.mark.parametrize(("padding", "expected"), [(0, [fg.Conv]), (1, [fg.Conv, fg.Conv])])
def test_batch_norm_before_a_convolution_folds_where_exact(padding, expected):
    graph = check(
        lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=padding, groups=2)),
        (4, 5, 5),
    )

    assert kinds(graph) == expected


def test_batch_norm_behind_a_relu_becomes_depthwise():
    graph = check(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.BatchNorm2d(3)), (1, 4, 4)
    )

    assert graph.nodes[1].groups == 3


def test_scaling_inside_the_network_folds():
    def make():
        module = Function(lambda m, x: m.conv((x - m.mean) / 0.5 * 2 + 1), conv=nn.Conv2d(3, 4, 3))
        module.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1))
        return module

    assert kinds(check(make, (3, 5, 5))) == [fg.Conv]


def test_weights_computed_from_parameters():
    graph = check(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), (4,))

    assert kinds(graph) == [fg.Dense]


@pytest.mark.parametrize(
    ("activation", "lo", "hi"),
    [
        (nn.ReLU(inplace=True), 0.0, np.inf),
        (nn.ReLU6(), 0.0, 6.0),
        (nn.Hardtanh(-0.5, 0.7), -0.5, 0.7),
        (Function(lambda m, x: x.clamp(min=0)), 0.0, np.inf),
        (Function(lambda m, x: torch.clip(x, 0, 3)), 0.0, 3.0),
        (Function(lambda m, x: F.relu(x).clamp(max=0.5)), 0.0, 0.5),
        (Function(lambda m, x: torch.maximum(x, torch.zeros(()))), 0.0, np.inf),
    ],
    ids=str,
)
def test_activations_fuse(activation, lo, hi):
    graph = check(lambda: nn.Sequential(nn.Linear(6, 5), activation), (6,))

    assert kinds(graph) == [fg.Dense]
    assert (graph.nodes[0].lo, graph.nodes[0].hi) == (lo, hi)


def test_relu_behind_pool_and_flatten_fuses_into_the_convolution():
    graph = check(
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.ReLU()),
        (1, 6, 6),
    )

    assert kinds(graph) == [fg.Conv, fg.MaxPool, fg.Flatten]
    assert graph.nodes[0].lo == 0.0


def test_relu_of_a_shared_tensor_stays():
    graph = check(
        lambda: Function(lambda m, x: F.relu(m.conv(x)) + m.conv(x), conv=nn.Conv2d(1, 2, 1)),
        (1, 3, 3),
    )
    shared = check(
        lambda: Function(
            lambda m, x: (lambda y: F.relu(y) + y)(m.conv(x)), conv=nn.Conv2d(1, 2, 1)
        ),
        (1, 3, 3),
    )

    assert fg.Clamp not in kinds(graph)
    assert kinds(shared) == [fg.Conv, fg.Clamp, fg.Sum]


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.AvgPool2d(2),
        nn.AvgPool2d((3, 2), stride=(2, 1), padding=(1, 0)),
        nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        nn.AvgPool2d(3, stride=2, ceil_mode=True, count_include_pad=False),
        nn.AdaptiveAvgPool2d(2),
        nn.AdaptiveMaxPool2d((1, 2)),
        Function(lambda m, x: x[:, :, ::2, ::2]),
    ],
    ids=str,
)
def test_pools(pool):
    graph = check(lambda: pool, (3, 8, 8))

    assert len(graph.nodes) == 1


@pytest.mark.parametrize(
    "head",
    [
        lambda m, x: x.mean((2, 3)),
        lambda m, x: F.adaptive_avg_pool2d(x, 1).flatten(1),
        lambda m, x: F.avg_pool2d(x, (4, 6)).view(x.size(0), -1),
        lambda m, x: x.mean([-1, -2], keepdim=True).squeeze(),
    ],
)
def test_mean_over_the_image(head):
    graph = check(lambda: Function(head), (3, 4, 6))

    assert kinds(graph) == [fg.GlobalAvgPool]


def test_residual_block_with_inplace_add():
    def forward(m, x):
        y = m.bn(m.conv(x))
        y += m.short(x[:, :, ::2, ::2])
        return F.relu_(y)

    graph = check(
        lambda: Function(
            forward,
            conv=nn.Conv2d(2, 4, 3, 2, 1, bias=False),
            bn=nn.BatchNorm2d(4),
            short=nn.Conv2d(2, 4, 1),
        ),
        (2, 6, 6),
    )

    assert kinds(graph) == [fg.Conv, fg.MaxPool, fg.Conv, fg.Sum]
    assert graph.nodes[1].stride == (2, 2)
    assert graph.nodes[-1].lo == 0.0


def test_concat_and_channel_padding():
    def forward(m, x):
        return torch.cat([m.conv(x), F.pad(x, (0, 0, 0, 0, 1, 2))], 1)

    graph = check(lambda: Function(forward, conv=nn.Conv2d(2, 3, 1)), (2, 4, 4))

    assert kinds(graph) == [fg.Conv, fg.Pad, fg.Concat]
    assert graph.nodes[1].channels == (1, 2)


def test_argmax():
    graph = check(lambda: Function(lambda m, x: m.fc(x).argmax(1), fc=nn.Linear(4, 5)), (4,))

    assert kinds(graph) == [fg.Dense, fg.ArgMax]


def test_training_mode_is_left_as_it_was():
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout())
    module[2].eval()
    import_torch(module, (4,))

    assert [part.training for part in module.modules()] == [True, True, True, False]


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (
            lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sigmoid()),
            (1, 4, 4),
            r"layer 1: .*sigmoid.*Conv2d",
        ),
        (lambda: nn.LayerNorm(4), (4,), "layer .*not supported"),
        (lambda: nn.ConvTranspose2d(1, 1, 2), (1, 4, 4), "transposed"),
        (lambda: nn.Conv1d(1, 1, 1), (1, 4), "input shape"),
        (lambda: nn.Linear(4, 2), (2, 3, 4), "batch axis"),
        (lambda: nn.MaxPool2d(2, dilation=2), (1, 5, 5), "dilation"),
        (lambda: nn.AvgPool2d(2, divisor_override=3), (1, 4, 4), "divisor_override"),
        (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True), (1, 8, 8), "count_include_pad"),
        (lambda: nn.AdaptiveAvgPool2d(3), (1, 8, 8), "must divide"),
        (lambda: nn.BatchNorm1d(4), (4,), "batch norm or scaling of a vector"),
        (lambda: Function(lambda m, x: x - x.flip(1)), (4,), "flip"),
        (lambda: Function(lambda m, x: x * x), (4,), "constants"),
        (lambda: Function(lambda m, x: x / 0.0), (4,), "zero, NaN"),
        (lambda: Function(lambda m, x: x + torch.arange(5.0)), (2, 5, 5), "per channel"),
        (
            lambda: Function(lambda m, x: x + x.mean((2, 3), keepdim=True)),
            (2, 4, 4),
            "must be equal",
        ),
        (
            lambda: Function(lambda m, x: torch.sub(x, m.fc(x)), fc=nn.Linear(4, 4)),
            (4,),
            "differences",
        ),
        (lambda: Function(lambda m, x: torch.cat([x, x], 2)), (2, 4, 4), "channel axis"),
        (lambda: Function(lambda m, x: F.pad(x, (1, 1), value=1.0)), (1, 4, 4), "zeros"),
        (lambda: Function(lambda m, x: F.pad(x, (1, -1))), (1, 4, 4), "cropping"),
        (lambda: Function(lambda m, x: F.pad(x, (1, 1))), (4,), "padding of vectors"),
        (lambda: Function(lambda m, x: x[:, :, 1:]), (2, 4, 4), "slices"),
        (lambda: Function(lambda m, x: x[:, :2]), (3, 4, 4), "slices"),
        (lambda: Function(lambda m, x: x.reshape(1, -1)), (4,), "batch axis"),
        (lambda: Function(lambda m, x: x.mean(1)), (2, 4, 4), "mean"),
        (lambda: Function(lambda m, x: x.argmax(1)), (2, 4, 4), "argmax"),
        (lambda: Function(lambda m, x: x.clamp(1.0, -1.0)), (4,), "empty range"),
        (lambda: Function(lambda m, x: (x, x)), (4,), "2 outputs"),
        (lambda: Function(lambda m, x: torch.ones(2, 4)), (4,), "does not depend"),
        (
            lambda: Function(lambda m, x: F.max_pool2d(x, 2, return_indices=True)[1]),
            (1, 4, 4),
            "first result",
        ),
        (lambda: Function(lambda m, x: x if x.sum() > 0 else -x), (4,), "cannot trace"),
        (lambda: nn.Linear(5, 2), (4,), "cannot trace"),
        (lambda: nn.Linear(4, 2), (4, 0), "input shape"),
        (lambda: nn.Linear(4, 2), (None,), "input shape"),
        (lambda: "model", (4,), "torch.nn.Module"),
    ],
)
def test_refuses_with_one_line_that_names_the_layer(make, shape, message):
    module = make()
    with pytest.raises(InputError, match=message) as caught:
        import_torch(module, shape)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_weights_that_are_not_finite_name_the_layer(value, name):
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with torch.no_grad():
        getattr(module[1], name)[0] = value

    with pytest.raises(InputError, match=f"layer 1: {name} holds NaN or infinity"):
        import_torch(module, (4,))


def test_batch_norm_with_negative_variance():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    module[1].running_var[2] = -1.0

    with pytest.raises(InputError, match="layer 1: running_var"):
        import_torch(module, (4,))
