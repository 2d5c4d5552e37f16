"""The Deep AutoEncoder for anomaly detection of MLPerf Tiny (Banbury et al., 2021), from the
baseline of DCASE 2020 task 2 (Koizumi et al., 2020): ten dense layers around a bottleneck of 8.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

__all__ = ["deep_autoencoder"]

WIDTHS = (128, 128, 128, 128, 8, 128, 128, 128, 128)


def deep_autoencoder(seed: int = 0, features: int = 640) -> Any:
    """Module from [n, features] (5 frames of 128 mel bands) to its reconstruction of that shape.

    Untrained, the weights follow from `seed`.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: OrderedDict[str, Any] = OrderedDict()
        size = features
        for index, width in enumerate(WIDTHS, 1):
            parts[f"fc{index}"] = nn.Linear(size, width)
            parts[f"bn{index}"] = nn.BatchNorm1d(width)
            parts[f"relu{index}"] = nn.ReLU()
            size = width
        parts["out"] = nn.Linear(size, features)
        return nn.Sequential(parts)
