"""Verify a build directory: cocotb benches on Verilator against the integer reference.

The parent computes what every tap and the output must show (quant/reference.py) and hands it over
as files; the benches (sim/benches) run in two processes on one compiled model.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..quant import serialize
from ..quant.errors import InputError
from ..quant.ir import Graph, IntArray
from . import cache, manifest, runner
from .expected import load_frames, pack_streams, random_frames
from .manifest import Manifest

__all__ = ["verify"]

LEAST_FRAMES = 6
CHUNK_FRAMES = 64
SAMPLED_REGISTERS = 4
MODULES = ",".join(f"{__package__}.benches.{name}" for name in ("stream", "timing", "faults"))
LONGEST = "stream_all"
REST = ("timing", "three_frames", "long_stall", "reset_mid_frame", "faults")


def verify(
    directory: Path,
    *,
    images: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run every bench on DIR; returns {images, mismatches, latency_cycles, initiation_interval,
    benches: [{name, passed, ...}], predicted}.

    `images` takes the first frames of vectors.npz only, `seed` moves the random idles, stalls,
    resets and flips, `progress` is told what starts. Raises InputError for a directory that cannot
    be read or compiled; a failed bench is a result, not an error.
    """
    tell = progress or (lambda _: None)
    found = manifest.load(directory)
    graph = serialize.load(directory / "graph.json")
    x = load_frames(directory / "vectors.npz", graph)[:images]
    if not len(x):
        raise InputError(
            f"{directory / 'vectors.npz'}: no frames to verify; build with test frames"
        )
    sampled, pairs = _sample(found)
    tell("compiling the model")
    model = runner.build(found, [found.registers[i] for i in {*sampled, *sum(pairs, ())}])
    with cache.scratch() as work:
        tell("computing the expected beats")
        extra = random_frames(graph, LEAST_FRAMES - len(x), seed)
        _write_vectors(found, graph, np.concatenate([x, extra]), work)
        options = {"directory": str(directory.resolve()), "vectors": str(work), "seed": seed}
        options |= {"registers": sampled, "pairs": pairs}
        tell(f"running the benches on {len(x)} frames")
        results = _run(model, work, options)
    return _summary(found, len(x), results)


def _run(model: Path, work: Path, options: dict[str, Any]) -> list[runner.Result]:
    """The longest bench in one process, the others in a second."""
    with contextlib.ExitStack() as stack:
        groups = {"longest": (LONGEST,), "rest": REST}
        benches = [
            stack.enter_context(runner.start(model, MODULES, names, work / group, **options))
            for group, names in groups.items()
        ]
        return [result for bench in benches for result in bench.wait()]


def _write_vectors(found: Manifest, graph: Graph, x: IntArray, work: Path) -> None:
    """stream_<k>.npy: words uint8 [n, beats, word_bytes] of the input, the output, each tap."""
    streams = [found.input, found.output, *(tap.stream for tap in found.taps)]
    shapes = [(len(x), stream.beats, stream.word_bytes) for stream in streams]
    files = [
        np.lib.format.open_memmap(work / f"stream_{k}.npy", "w+", np.uint8, shape)
        for k, shape in enumerate(shapes)
    ]
    for start in range(0, len(x), CHUNK_FRAMES):
        chunk = slice(start, start + CHUNK_FRAMES)
        for file, words in zip(files, pack_streams(found, graph, x[chunk]), strict=True):
            file[chunk] = words


def _sample(found: Manifest) -> tuple[list[int], list[tuple[int, ...]]]:
    """Indices of up to four registers of each role, and pairs of replicas of one register."""
    roles: dict[str, list[int]] = {}
    for i, register in enumerate(found.registers):
        roles.setdefault(register.role, []).append(i)
    sampled = []
    for group in roles.values():
        picks = np.linspace(0, len(group) - 1, min(len(group), SAMPLED_REGISTERS))
        sampled += [group[int(pick)] for pick in picks]
    places = {register.name: i for i, register in enumerate(found.registers)}
    pairs: list[tuple[int, ...]] = []
    for voter in found.voters[:SAMPLED_REGISTERS]:
        first, second = (f"{replica}." for replica in voter.replicas[:2])
        for name, i in places.items():
            twin = places.get(second + name.removeprefix(first)) if name.startswith(first) else None
            pairs += [(i, twin)] if twin is not None else []
    return sorted(sampled), pairs


def _summary(found: Manifest, images: int, results: list[runner.Result]) -> dict[str, Any]:
    benches = [_bench(result) for result in results]
    timing: dict[str, Any] = next(bench for bench in benches if bench["name"] == "timing")
    return {
        "images": images,
        "mismatches": sum(bench.get("mismatches", 0) for bench in benches),
        "latency_cycles": timing.get("latency_cycles"),
        "initiation_interval": timing.get("initiation_interval"),
        "benches": benches,
        "predicted": {
            "latency_cycles": found.latency_cycles,
            "initiation_interval": found.initiation_interval,
            "last_beat_cycles": list(found.last_beat_cycles),
        },
    }


def _bench(result: runner.Result) -> dict[str, Any]:
    detail = dict(result.detail)
    if not result.passed and not detail.get("report"):
        detail["report"] = [result.message]
    return {"name": result.name, "passed": result.passed, **detail}
