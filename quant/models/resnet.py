"""Residual networks for CIFAR-10: ResNet-20 of the paper and the ResNet-8 of MLPerf Tiny.

He, Zhang, Ren, Sun, "Deep residual learning for image recognition" (CVPR 2016), section 4.2:
identity shortcuts of option A, strided slice and zero channels. Banbury et al., "MLPerf Tiny
Benchmark" (NeurIPS Datasets 2021): three stacks, 1x1 convolutions as shortcuts, biases everywhere.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from pathlib import Path
from typing import Any

__all__ = ["load_resnet20", "resnet8", "resnet20"]


def resnet20(seed: int = 0, classes: int = 10) -> Any:
    """Module from [n, 3, 32, 32] to [n, classes]; untrained, the weights follow from `seed`.

    Three stacks of three blocks with 16, 32 and 64 channels. The keys of its state are conv1, bn1,
    layer{1,2,3}.{0,1,2}.{conv1,bn1,conv2,bn2} and linear.
    """
    import torch
    from torch import nn

    block, network = _classes()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stacks = []
        for index, width in enumerate((16, 32, 64)):
            entry = block(width // 2 if index else width, width, 2 if index else 1, "zeros")
            stacks.append(nn.Sequential(entry, *(block(width, width, 1, "zeros") for _ in "12")))
        parts = {f"layer{i}": stack for i, stack in enumerate(stacks, 1)}
        return network(
            OrderedDict(conv1=nn.Conv2d(3, 16, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(16)),
            OrderedDict(parts, linear=nn.Linear(64, classes)),
        )


def load_resnet20(path: str | Path) -> Any:
    """ResNet-20 with the weights of a torch checkpoint, in evaluation mode.

    The file holds a state dictionary, or one under `state_dict`; "module." in front of keys is
    dropped. It is read as tensors only (`weights_only=True`), never unpickled. Raises ValueError,
    naming the file, where the keys or shapes are not those of `resnet20`.
    """
    import torch

    path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("state_dict", content)
        module = resnet20()
        module.load_state_dict({key.removeprefix("module."): v for key, v in state.items()})
    except OSError as error:
        raise ValueError(f"{path.name}: cannot be read: {error.strerror}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path.name}: is no checkpoint of ResNet-20: {reason}") from None
    return module.eval()


def resnet8(seed: int = 0, classes: int = 10) -> Any:
    """Module from [n, 3, 32, 32] to [n, classes]; untrained, the weights follow from `seed`.

    Three stacks of one block with 16, 32 and 64 channels; padding as Keras pads ("same": an odd
    pixel goes behind).
    """
    import torch
    from torch import nn

    block, network = _classes()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network(
            OrderedDict(conv1=nn.Conv2d(3, 16, 3, padding=1), bn1=nn.BatchNorm2d(16)),
            OrderedDict(
                stack1=block(16, 16, 1, "conv"),
                stack2=block(16, 32, 2, "conv"),
                stack3=block(32, 64, 2, "conv"),
                fc=nn.Linear(64, classes),
            ),
        )


@functools.cache
def _classes() -> tuple[type[Any], type[Any]]:
    """The block and the network; made on first use, so that this file loads without torch."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        """Two 3x3 convolutions with batch norm around a shortcut, `zeros` (option A) or `conv`."""

        def __init__(self, channels: int, width: int, stride: int, shortcut: str) -> None:
            super().__init__()
            bias = shortcut == "conv"
            # Keras pads an even image in front of a stride of 2 with (0, 1), the paper with (1, 1).
            self.pad = nn.ZeroPad2d((0, 1, 0, 1)) if bias and stride == 2 else nn.Identity()
            padding = 0 if bias and stride == 2 else 1
            self.conv1 = nn.Conv2d(channels, width, 3, stride, padding, bias=bias)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=bias)
            self.bn2 = nn.BatchNorm2d(width)
            self.stride, self.added = stride, width - channels
            changed = bias and (stride > 1 or self.added)
            self.shortcut = nn.Conv2d(channels, width, 1, stride) if changed else None

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.bn1(self.conv1(self.pad(x))))
            y = self.bn2(self.conv2(y))
            if self.shortcut is not None:
                x = self.shortcut(x)
            elif self.added:
                x = x[:, :, :: self.stride, :: self.stride]
                half = self.added // 2
                x = functional.pad(x, (0, 0, 0, 0, half, self.added - half))
            return torch.relu(y + x)

    class ResNet(nn.Module):
        """Stem, stacks, mean over the image, dense layer."""

        def __init__(self, stem: OrderedDict[str, Any], rest: OrderedDict[str, Any]) -> None:
            super().__init__()
            for name, part in [*stem.items(), *rest.items()]:
                self.add_module(name, part)
            self.stacks = list(rest)[:-1]
            self.last = list(rest)[-1]

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.bn1(self.conv1(x)))
            for name in self.stacks:
                x = getattr(self, name)(x)
            return getattr(self, self.last)(x.mean((2, 3)))

    return Block, ResNet
