"""How deep the FIFOs in front of the joins must be: the least that costs no throughput.

A branch that is computed faster than its neighbour waits at the join. With too little room it
holds back the fork and with it the neighbour: throughput is lost, or nothing moves any more.
"""

from __future__ import annotations

from dataclasses import replace

from .config import LayerConfig
from .join_config import JoinConfig
from .timing import Network, Timing, solved

__all__ = ["fit_skips"]

FRAMES = 4
"""Frames that a trial follows; the interval is that of the last two."""

SLACK = 8
"""Cycles that a trial may end later than with unlimited FIFOs: beyond, throughput is being lost."""


def fit_skips(layers: tuple[LayerConfig, ...]) -> tuple[LayerConfig, ...]:
    """The layers with the smallest operand FIFOs that keep the interval of unlimited ones.

    What the FIFOs hold when the input arrives at the network's own pace is enough for that pace:
    with all these depths at once there is a schedule, and an earlier input delays nothing. From
    there each FIFO is made smaller, one after the other, as long as the exact recurrence says that
    nothing is lost. So one word less in any of them loses throughput.
    """
    joins = [layer for layer in layers if isinstance(layer, JoinConfig)]
    if not joins:
        return layers
    network = solved(layers, FRAMES, _unlimited)
    free = network.timing()
    paced = solved(layers, FRAMES, lambda one: _paced(one, free.initiation_interval))
    places = [(join.name, port) for join in joins for port in range(len(join.operands))]
    depths = {place: paced.held(*place) for place in places}
    for place, depth in depths.items():
        network.set_depth(*place, depth)
    network.solve()
    for place in sorted(places, key=depths.__getitem__):
        depths[place] = _least(network, place, depths[place], free)
    return tuple(
        replace(
            layer,
            operands=tuple(
                replace(operand, depth=depths[layer.name, port])
                for port, operand in enumerate(layer.operands)
            ),
        )
        if isinstance(layer, JoinConfig)
        else layer
        for layer in layers
    )


def _unlimited(network: Network) -> None:
    """Operand FIFOs that never fill."""
    for name, one in network.stages.items():
        for port, words in enumerate(one.layer.in_words):
            if isinstance(one.layer, JoinConfig):
                network.set_depth(name, port, FRAMES * words)


def _paced(network: Network, interval: int) -> None:
    """The same, with the input spread over the interval."""
    _unlimited(network)
    network.inlet.pace(interval, network.frames)


def _least(network: Network, place: tuple[str, int], enough: int, free: Timing) -> int:
    """The smallest depth of one FIFO that keeps the interval; the network is left with it.

    Less room only delays, so the times known for more room are where a trial starts from. Steps
    double until one fails, then the failed step is halved.
    """
    best, step, growing = network.save(), 1, True
    while step:
        depth = enough - step
        kept = False
        if depth >= 1:
            network.set_depth(*place, depth)
            kept = network.solve(free.last_beat_cycles[-1] + SLACK)
        if kept and network.timing().initiation_interval <= free.initiation_interval:
            enough, best = depth, network.save()
        else:
            growing = False
            network.restore(best)
        step = 2 * step if growing else step // 2
    network.set_depth(*place, enough)
    return enough
