"""The manifest of a build directory, read and checked: ports, taps, layers, registers, voters.

A directory is input like any other: every path in it is relative and stays inside, every name is
an identifier, every number is in range, or `load` raises `InputError` naming the file and the key.
Keys that this reader does not know are kept in `Manifest.raw` and otherwise ignored.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ..quant.errors import InputError
from ..quant.ir import IntArray
from ..quant.names import printable
from .fields import Fields

__all__ = ["SCHEMA", "Layer", "Manifest", "Register", "Stream", "Tap", "Voter", "inside", "load"]

SCHEMA = 1
MAX_BYTES = 256 << 20
MAX_LANE_BITS = 62
_FILE = re.compile(r"[A-Za-z0-9_./-]+")

Words = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Stream:
    """One valid/ready stream: signal names in the top module and the layout of its beats.

    A frame of `shape` (channels last) is `beats` beats of `lanes` elements; element j of a beat
    lies in data bits [j * lane_bits, (j + 1) * lane_bits), two's complement if `signed`. A
    `bipolar` element is one bit: 1 is +1, 0 is -1. `permutation` names the neuron at each channel
    position of the stream, None the model's order.
    """

    valid: str
    ready: str
    data: str
    first: str
    last: str
    err: str | None
    lanes: int
    lane_bits: int
    signed: bool
    beats: int
    shape: tuple[int, ...]
    permutation: tuple[int, ...] | None = None
    bipolar: bool = False

    @property
    def word_bits(self) -> int:
        """Width of the data word of a beat."""
        return self.lanes * self.lane_bits

    @property
    def word_bytes(self) -> int:
        """Bytes that hold a data word."""
        return -(-self.word_bits // 8)

    @property
    def elements(self) -> int:
        """Elements of a frame."""
        return math.prod(self.shape)

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest element that the lane can carry."""
        if self.bipolar:
            return -1, 1
        half = 1 << (self.lane_bits - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    def pack(self, frames: IntArray) -> Words:
        """Frames [n, *shape] in the model's order -> words uint8 [n, beats, word_bytes], LSB first.

        Raises ValueError for another shape or an element that does not fit the lane.
        """
        frames = np.asarray(frames, dtype=np.int64)
        if frames.shape[1:] != self.shape:
            raise ValueError(f"frames have shape {frames.shape[1:]}, the stream {self.shape}")
        lo, hi = self.limits
        if frames.size and (frames.min() < lo or frames.max() > hi):
            raise ValueError(f"an element lies outside {lo}..{hi}")
        if self.bipolar and not frames.all():
            raise ValueError("a bipolar element is 0; it must be -1 or +1")
        if self.permutation is not None:
            frames = frames[..., np.array(self.permutation)]
        flat = frames.reshape(len(frames), self.beats, self.lanes)
        if self.bipolar:
            flat = np.maximum(flat, 0)
        bits = np.empty((*flat.shape, self.lane_bits), np.uint8)
        for bit in range(self.lane_bits):
            bits[..., bit] = flat >> bit & 1
        joined = bits.reshape(len(frames), self.beats, self.word_bits)
        return np.packbits(joined, axis=-1, bitorder="little")

    def unpack(self, words: Words) -> IntArray:
        """Words uint8 [n, beats, word_bytes] -> frames int64 [n, *shape] in the model's order."""
        if words.shape[1:] != (self.beats, self.word_bytes):
            raise ValueError(
                f"words have shape {words.shape[1:]}, not {(self.beats, self.word_bytes)}"
            )
        bits = np.unpackbits(words, axis=-1, count=self.word_bits, bitorder="little")
        lanes = bits.reshape(len(words), self.elements, self.lane_bits)
        flat = np.zeros(lanes.shape[:2], np.int64)
        for bit in range(self.lane_bits):
            flat |= lanes[..., bit].astype(np.int64) << bit
        if self.bipolar:
            flat = 2 * flat - 1
        elif self.signed:
            flat -= lanes[..., -1].astype(np.int64) << self.lane_bits
        frames = flat.reshape(len(words), *self.shape)
        if self.permutation is not None:
            frames = frames[..., np.argsort(np.array(self.permutation))]
        return np.ascontiguousarray(frames)

    def to_ints(self, words: Words) -> list[int]:
        """Words uint8 [n, beats, word_bytes] -> n * beats Python integers, in stream order."""
        size, raw = self.word_bytes, np.ascontiguousarray(words).tobytes()
        if size <= 8:
            wide = np.zeros((len(raw) // size, 8), np.uint8)
            wide[:, :size] = words.reshape(-1, size)
            return [int(v) for v in wide.view("<u8")[:, 0]]
        return [int.from_bytes(raw[i : i + size], "little") for i in range(0, len(raw), size)]

    def from_ints(self, values: list[int]) -> Words:
        """Python integers of whole frames -> words uint8 [n, beats, word_bytes]."""
        raw = b"".join(value.to_bytes(self.word_bytes, "little") for value in values)
        return np.frombuffer(raw, np.uint8).reshape(-1, self.beats, self.word_bytes)


@dataclass(frozen=True)
class Tap:
    """The output stream of one hardware layer, watched inside the top module."""

    layer: str
    stream: Stream


@dataclass(frozen=True)
class Layer:
    """One hardware layer: operator, folding, spacing of its frames in cycles, MACs a frame."""

    name: str
    op: str
    pe: int
    simd: int
    initiation_interval: int
    macs: int
    out_lanes: int


@dataclass(frozen=True)
class Register:
    """One register: hierarchical path below the top module, width in bits, role and owner."""

    name: str
    width: int
    role: str
    layer: str
    lane: int | None = None
    replica: int | None = None


@dataclass(frozen=True)
class Voter:
    """One majority voter and the paths of the replicas that feed it."""

    path: str
    layer: str
    lane: int | None
    replicas: tuple[str, ...]
    width: int


@dataclass(frozen=True)
class Manifest:
    """What a build directory says about its design; `raw` is the whole JSON object."""

    directory: Path
    design: str
    name: str
    top: str
    verilog: Path
    clock: str
    reset: str
    input: Stream
    output: Stream
    taps: tuple[Tap, ...]
    layers: tuple[Layer, ...]
    latency_cycles: int
    initiation_interval: int
    spacings: tuple[int, ...]
    last_beat_cycles: tuple[int, ...]
    ff_bits: int
    registers: tuple[Register, ...]
    voters: tuple[Voter, ...]
    raw: Mapping[str, Any]


def _permutation(fields: Fields, channels: int) -> tuple[int, ...] | None:
    if fields.value.get("permutation") is None:
        return None
    permutation = fields.integers("permutation")
    if sorted(permutation) != list(range(channels)):
        raise fields.error("permutation", f"must hold each of 0..{channels - 1} once")
    return permutation


def _stream(fields: Fields) -> Stream:
    shape = fields.integers("shape", 1)
    lanes = fields.integer("lanes", 1, 1 << 16)
    beats = fields.integer("beats", 1)
    if not shape or math.prod(shape) != beats * lanes:
        raise fields.error("beats", f"times lanes must make the {math.prod(shape)} elements")
    bipolar = "bipolar" in fields.value and fields.boolean("bipolar")
    lane_bits = fields.integer("lane_bits", 1, MAX_LANE_BITS)
    if bipolar and lane_bits != 1:
        raise fields.error("lane_bits", "must be 1 where bipolar is true")
    return Stream(
        **{key: fields.identifier(key) for key in ("valid", "ready", "data", "first", "last")},
        err=None if fields.value.get("err") is None else fields.identifier("err"),
        lanes=lanes,
        lane_bits=lane_bits,
        signed=fields.boolean("signed"),
        beats=beats,
        shape=shape,
        permutation=_permutation(fields, shape[-1]),
        bipolar=bipolar,
    )


def _tap(fields: Fields) -> Tap:
    return Tap(fields.identifier("layer"), _stream(fields))


def _layer(fields: Fields) -> Layer:
    folding = fields.child("folding")
    return Layer(
        name=fields.identifier("name"),
        op=fields.identifier("op"),
        pe=folding.integer("pe", 1),
        simd=folding.integer("simd", 1),
        initiation_interval=fields.integer("initiation_interval", 1),
        macs=fields.integer("macs"),
        out_lanes=fields.integer("out_lanes", 1),
    )


def _register(fields: Fields) -> Register:
    return Register(
        name=fields.hierarchy("name"),
        width=fields.integer("width", 1, 1 << 20),
        role=fields.identifier("role"),
        layer=fields.text("layer"),
        lane=fields.optional("lane"),
        replica=fields.optional("replica"),
    )


def _voter(fields: Fields) -> Voter:
    return Voter(
        path=fields.hierarchy("path"),
        layer=fields.text("layer"),
        lane=fields.optional("lane"),
        replicas=fields.names("replicas"),
        width=fields.integer("width", 1, 1 << 20),
    )


def inside(directory: Path, name: str, origin: Path) -> Path:
    """The file `name` of `directory`; InputError, naming `origin`, unless it lies inside."""
    relative = Path(name)
    path = directory / relative
    if not _FILE.fullmatch(name):
        raise InputError(f"{origin}: {printable(name)} is no plain file name")
    if relative.is_absolute() or not path.resolve().is_relative_to(directory.resolve()):
        raise InputError(f"{origin}: {printable(name)} must be a relative path inside {directory}")
    if not path.is_file():
        raise InputError(f"{origin}: {printable(name)} is not there; build the directory again")
    return path


def _parse(path: Path) -> Fields:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB, no manifest is")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or "not readable"
        raise InputError(f"{path}: {reason}; `tercet build` writes it") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not valid JSON; build the directory again") from None
    return Fields(path, "", value)


def _spacings(fields: Fields) -> tuple[int, ...]:
    """Spacings of last beats; without the key every one is the interval."""
    interval = fields.integer("initiation_interval", 1)
    found = fields.integers("spacings", 1) if "spacings" in fields.value else (interval,)
    if interval not in found:
        raise fields.error("spacings", f"must hold the initiation_interval {interval}")
    return found


def load(directory: Path) -> Manifest:
    """Read and check DIR/manifest.json; raises InputError naming the file and the key."""
    fields = _parse(directory / "manifest.json")
    if fields.get("schema") != SCHEMA:
        raise fields.error("schema", f"must be {SCHEMA}")
    sites = fields.child("sites")
    manifest = Manifest(
        directory=directory,
        design=fields.text("design"),
        name=fields.text("name"),
        top=fields.identifier("top"),
        verilog=inside(directory, fields.text("verilog"), fields.path),
        clock=fields.identifier("clock"),
        reset=fields.identifier("reset"),
        input=_stream(fields.child("input")),
        output=_stream(fields.child("output")),
        taps=fields.each("taps", _tap),
        layers=fields.each("layers", _layer),
        latency_cycles=fields.integer("latency_cycles", 1),
        initiation_interval=fields.integer("initiation_interval", 1),
        spacings=_spacings(fields),
        last_beat_cycles=fields.integers("last_beat_cycles"),
        ff_bits=sites.integer("ff_bits"),
        registers=sites.each("registers", _register),
        voters=fields.each("voters", _voter) if "voters" in fields.value else (),
        raw=MappingProxyType(fields.value),
    )
    if len(manifest.last_beat_cycles) != 3:
        raise fields.error("last_beat_cycles", "must hold three cycles")
    return manifest
