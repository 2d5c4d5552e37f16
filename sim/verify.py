"""Verify a build directory: benches on Verilator against the integer reference.

The parent computes what every tap and the output must show (quant/reference.py) and hands it over
as files. The benches (sim/benches) run in two processes on one compiled model; for a design of many
cycles a frame (sim/budget.py) the benches that need many frames run on the clocked harness instead
(sim/large.py), on the same compiled design.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..quant import serialize
from ..quant.errors import InputError
from ..quant.ir import Graph, IntArray
from . import cache, large, manifest, runner
from .budget import Budget, budget
from .expected import load_frames, pack_streams, random_frames
from .manifest import Manifest, Words

__all__ = ["verify"]

CHUNK_ELEMENTS = 1 << 22
MODULES = ",".join(f"{__package__}.benches.{name}" for name in ("stream", "timing", "faults"))
BENCHES = ("stream_all", "timing", "three_frames", "long_stall", "reset_mid_frame", "faults")
LONGEST = "stream_all"


def verify(
    directory: Path,
    *,
    images: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run every bench on DIR; returns {images, mismatches, latency_cycles, initiation_interval,
    benches: [{name, passed, driver, ...}], predicted}.

    `images` takes the first frames of vectors.npz only, `seed` moves the random idles, stalls,
    resets and flips, `progress` is told what starts and how far it is. Raises InputError for a
    directory that cannot be read or compiled; a failed bench is a result, not an error.
    """
    tell = progress or (lambda _: None)
    found = manifest.load(directory)
    graph = serialize.load(directory / "graph.json")
    x = load_frames(directory / "vectors.npz", graph)[:images]
    if not len(x):
        raise InputError(
            f"{directory / 'vectors.npz'}: no frames to verify; build with test frames"
        )
    size = budget(found, len(x))
    sampled, pairs = _sample(found, size.registers)
    visible = [found.registers[i] for i in sorted({*sampled, *sum(pairs, ())})]
    tell("compiling the model")
    model = runner.build(found, visible)
    with cache.scratch() as work:
        extra = random_frames(graph, size.frames - len(x), seed)
        words = _write_vectors(found, graph, np.concatenate([x, extra]), work, tell)
        options: dict[str, Any] = {"directory": str(directory.resolve()), "vectors": str(work)}
        options |= {"registers": sampled, "pairs": pairs, "budget": size.options(), "seed": seed}
        tell(f"running the benches on {len(x)} frames")
        with contextlib.ExitStack() as stack:
            benches = [
                stack.enter_context(runner.start(model, MODULES, names, work / names[0], **options))
                for names in _groups(size)
            ]
            results: list[runner.Result] = []
            if size.clocked:
                design = runner.recipe(found, visible)
                results += large.run(found, design, words, work, seed, tell)
            results += [result for bench in benches for result in bench.wait(progress=tell)]
    return _summary(found, len(x), sorted(results, key=lambda r: BENCHES.index(r.name)))


def _groups(size: Budget) -> list[tuple[str, ...]]:
    """The cocotb benches, a tuple a process."""
    if size.clocked:
        return [tuple(name for name in BENCHES if name not in large.BENCHES)]
    return [(LONGEST,), tuple(name for name in BENCHES if name != LONGEST)]


def _write_vectors(
    found: Manifest, graph: Graph, x: IntArray, work: Path, tell: Callable[[str], None]
) -> list[Words]:
    """stream_<k>.bin: words uint8 [n, beats, word_bytes] of the input, the output, each tap.

    Computed a few frames at a time and returned as maps of the files, so that memory is bounded.
    """
    streams = [found.input, found.output, *(tap.stream for tap in found.taps)]
    paths = [work / f"stream_{k}.bin" for k in range(len(streams))]
    step = max(1, min(64, CHUNK_ELEMENTS // sum(stream.elements for stream in streams)))
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for start in range(0, len(x), step):
            tell(f"computing the expected beats, frame {start} of {len(x)}")
            packed = pack_streams(found, graph, x[start : start + step])
            for file, words in zip(files, packed, strict=True):
                file.write(words.tobytes())
    shapes = [(len(x), stream.beats, stream.word_bytes) for stream in streams]
    return [
        np.memmap(path, np.uint8, "r", shape=shape)
        for path, shape in zip(paths, shapes, strict=True)
    ]


def _sample(found: Manifest, count: int) -> tuple[list[int], list[tuple[int, ...]]]:
    """Indices of up to `count` registers of each role, and pairs of replicas of one register."""
    roles: dict[str, list[int]] = {}
    for i, register in enumerate(found.registers):
        roles.setdefault(register.role, []).append(i)
    sampled = []
    for group in roles.values():
        picks = np.linspace(0, len(group) - 1, min(len(group), count))
        sampled += [group[int(pick)] for pick in picks]
    places = {register.name: i for i, register in enumerate(found.registers)}
    pairs: list[tuple[int, ...]] = []
    for voter in found.voters[:count]:
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
    return {"name": result.name, "passed": result.passed, "driver": "cocotb", **detail}
