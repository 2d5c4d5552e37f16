"""Reading a manifest, and the way between frames and beats."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.sim import manifest
from tercet.sim.manifest import Stream

NAMES = {"valid": "v", "ready": "r", "data": "d", "first": "f", "last": "l", "err": None}


def stream(**changes: Any) -> Stream:
    layout: dict[str, Any] = {"lanes": 2, "lane_bits": 8, "signed": True, "beats": 6}
    return Stream(**NAMES, **(layout | {"shape": (2, 3, 2)} | changes))


def raw_stream(**changes: Any) -> dict[str, Any]:
    layout: dict[str, Any] = {"lanes": 2, "lane_bits": 8, "signed": True, "beats": 2, "shape": [4]}
    return NAMES | layout | {"permutation": None} | changes


def raw_manifest() -> dict[str, Any]:
    register = {"name": "conv.lane_0.acc", "width": 20, "role": "accumulator", "layer": "conv"}
    layer = {"name": "conv", "op": "Dense", "folding": {"pe": 1, "simd": 2}, "out_lanes": 2}
    return {
        "schema": 1,
        "design": "0" * 64,
        "name": "net",
        "top": "top",
        "verilog": "top.v",
        "clock": "clk",
        "reset": "rst",
        "input": raw_stream(),
        "output": raw_stream(err="e"),
        "taps": [{"layer": "conv"} | raw_stream(permutation=[1, 0, 3, 2])],
        "layers": [layer | {"initiation_interval": 4, "macs": 16, "a_later_key": 1}],
        "latency_cycles": 9,
        "initiation_interval": 4,
        "last_beat_cycles": [9, 13, 17],
        "sites": {"ff_bits": 20, "registers": [register | {"lane": 0, "replica": None}]},
    }


def write(directory: Path, value: Any) -> Path:
    (directory / "top.v").write_text("module top; endmodule\n")
    (directory / "manifest.json").write_text(json.dumps(value))
    return directory


@pytest.mark.parametrize(
    ("lanes", "lane_bits", "signed"), [(2, 8, True), (3, 5, False), (6, 23, True), (12, 1, False)]
)
def test_pack_and_unpack_are_inverse(lanes: int, lane_bits: int, signed: bool) -> None:
    layout = stream(lanes=lanes, lane_bits=lane_bits, signed=signed, beats=12 // lanes)
    lo, hi = layout.limits
    frames = np.random.default_rng(1).integers(lo, hi, (7, 2, 3, 2), endpoint=True)

    words = layout.pack(frames)

    assert words.shape == (7, layout.beats, layout.word_bytes)
    assert np.array_equal(layout.unpack(words), frames)
    assert np.array_equal(layout.from_ints(layout.to_ints(words)), words)


def test_element_j_lies_at_lane_j() -> None:
    words = stream(lanes=3, lane_bits=4, beats=1, shape=(3,)).pack(np.array([[1, -1, 2]]))

    assert stream(lanes=3, lane_bits=4, beats=1, shape=(3,)).to_ints(words) == [0x2F1]


def test_permutation_orders_channels_of_the_stream() -> None:
    layout = stream(lanes=1, beats=3, shape=(3,), permutation=(2, 0, 1))
    words = layout.pack(np.array([[10, 11, 12]]))

    assert layout.to_ints(words) == [12, 10, 11]
    assert np.array_equal(layout.unpack(words), [[10, 11, 12]])


def test_a_bipolar_element_is_one_bit() -> None:
    layout = stream(lanes=4, lane_bits=1, beats=1, shape=(4,), bipolar=True)
    words = layout.pack(np.array([[1, -1, -1, 1]]))

    assert layout.to_ints(words) == [0b1001]
    assert np.array_equal(layout.unpack(words), [[1, -1, -1, 1]])


def test_pack_refuses_a_bipolar_zero() -> None:
    layout = stream(lanes=4, lane_bits=1, beats=1, shape=(4,), bipolar=True)

    with pytest.raises(ValueError, match=r"0; it must be -1 or \+1"):
        layout.pack(np.array([[1, -1, 0, 1]]))


def test_pack_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"outside -128\.\.127"):
        stream().pack(np.full((1, 2, 3, 2), 128))
    with pytest.raises(ValueError, match="shape"):
        stream().pack(np.zeros((1, 12), np.int64))


def test_load_reads_every_part(tmp_path: Path) -> None:
    found = manifest.load(write(tmp_path, raw_manifest()))

    assert found.verilog == tmp_path / "top.v"
    assert found.input.word_bits == 16
    assert found.output.err == "e"
    assert not found.output.bipolar
    assert found.taps[0].stream.permutation == (1, 0, 3, 2)
    assert found.layers[0].simd == 2
    assert found.registers[0].name == "conv.lane_0.acc"
    assert found.voters == ()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), 2, "schema must be 1"),
        (("verilog",), "../top.v", r"\.\./top\.v must be a relative path inside"),
        (("verilog",), "/etc/passwd", "must be a relative path inside"),
        (("verilog",), "absent.v", r"absent\.v is not there"),
        (("clock",), "clk; `include", "clock is not a name"),
        (("input", "lanes"), 0, r"input\.lanes must be an integer"),
        (("input", "bipolar"), 1, r"input\.bipolar must be true or false"),
        (("output", "bipolar"), True, r"output\.lane_bits must be 1 where bipolar is true"),
        (("input", "beats"), 3, r"input\.beats times lanes"),
        (("input", "signed"), 1, r"input\.signed must be true or false"),
        (("taps", 0, "permutation"), [0, 0, 1, 2], r"taps\[0\]\.permutation must hold each"),
        (("taps", 0, "valid"), 'a" -module "b', r"taps\[0\]\.valid is not a name"),
        (("layers",), {}, "layers must be a list"),
        (("latency_cycles",), "9", "latency_cycles must be an integer"),
        (("last_beat_cycles",), [1], "last_beat_cycles must hold three"),
        (("sites", "registers", 0, "name"), "a..b", r"registers\[0\]\.name is not a name"),
    ],
)
def test_load_names_file_and_key(
    tmp_path: Path, path: tuple[str | int, ...], value: Any, message: str
) -> None:
    raw = raw_manifest()
    place: Any = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value

    with pytest.raises(InputError, match=rf"manifest\.json: .*{message}"):
        manifest.load(write(tmp_path, raw))


def test_missing_key_is_named(tmp_path: Path) -> None:
    raw = raw_manifest()
    del raw["sites"]["ff_bits"]

    with pytest.raises(InputError, match=r"sites\.ff_bits is missing"):
        manifest.load(write(tmp_path, raw))


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\udcff", "3"])
def test_corrupt_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, errors="surrogateescape")

    with pytest.raises(InputError, match=r"manifest\.json: "):
        manifest.load(tmp_path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json: No such file"):
        manifest.load(tmp_path)


def test_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    write(inner, raw_manifest())
    (tmp_path / "other.v").write_text("module top; endmodule\n")
    (inner / "top.v").unlink()
    (inner / "top.v").symlink_to(tmp_path / "other.v")

    with pytest.raises(InputError, match="inside"):
        manifest.load(inner)
