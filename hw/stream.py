"""The stream contract (docs/streams.md): beats of lanes with frame marks, error flag and code."""

from amaranth.hdl import Shape, unsigned
from amaranth.lib import data, stream

__all__ = ["beat_layout", "beat_stream"]


def beat_layout(lanes: int, lane_bits: int, code_bits: int = 0) -> data.StructLayout:
    """Layout of one beat.

    Fields: `data`, `lanes` elements of `lane_bits` bits, element 0 lowest; `code`, `code_bits` per
    lane, a check code that travels with each element; `first` and `last`, the frame's first and
    last beat; `err`, a checker flagged this frame at or before this beat.
    Raises ValueError for sizes that are not positive.
    """
    if lanes < 1 or lane_bits < 1 or code_bits < 0:
        raise ValueError(f"beat of {lanes} lanes of {lane_bits} + {code_bits} bits")
    fields: dict[str, Shape | int] = {"data": unsigned(lanes * lane_bits)}
    if code_bits:
        fields["code"] = unsigned(lanes * code_bits)
    return data.StructLayout({**fields, "first": 1, "last": 1, "err": 1})


def beat_stream(lanes: int, lane_bits: int, code_bits: int = 0) -> stream.Signature:
    """Signature of a stream of such beats; `valid` never depends combinationally on `ready`."""
    return stream.Signature(beat_layout(lanes, lane_bits, code_bits))
