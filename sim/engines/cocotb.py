"""The audit engine: the same experiments in cocotb, on the clocked Verilog as it was emitted.

Nothing is shared with the native engine but the list of faults and the golden record that is to be
confirmed: other netlist, other simulator code, other injector, other comparison of the outputs.
benches/upset.py runs inside the simulator.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...quant.errors import ClaimError
from ...quant.ir import IntArray
from ...quant.names import printable
from .. import cache, probe, runner
from ..checker import flagged
from ..faults import Faults
from ..manifest import Manifest, Words
from ..native_model import NativeModel, counters
from ..outcomes import End, FrameFlag, Observed
from ..steady import Prepared
from . import native

__all__ = ["inject"]

BENCH = "tercet.sim.benches.upset"
CHUNK = 500

Json = dict[str, Any]


def inject(
    prepared: Prepared,
    faults: Faults,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Observed:
    """Run the experiments, `workers` at a time (default: one a core).

    `progress` is called with the number of experiments finished. InputError for faults that are
    none (`Prepared.check`); ClaimError if the clocked design is not in the golden state at an
    injection, a register cannot be reached, or a flip does not read back.
    """
    prepared.check(faults)
    model, words = prepared.model, prepared.stimulus.words
    timing, golden = prepared.stimulus.timing, prepared.golden
    order = np.argsort(faults.cycle, kind="stable")
    variables = _Variables(model)
    program = runner.program(_sources(model, variables, len(words)))
    seen: dict[int, Json] = {}
    for start in range(0, len(order), CHUNK):
        chosen = order[start : start + CHUNK]
        stops, cycles = _stops(faults, chosen, golden, timing)
        states = native.register_values(model, prepared.stimulus, np.array(cycles, np.int64))
        text = [variables.pack(state) for state in states]
        stops = _with_states(stops, text)
        seen |= _simulate(program, model.manifest, words, variables, stops, workers)
        if progress is not None:
            progress(len(chosen))
    return _observed(model.manifest, golden, timing, [seen[i] for i in range(len(order))])


class _Variables:
    """The Verilog variables that hold flip-flops, and where each flip-flop bit lies in them."""

    def __init__(self, model: NativeModel) -> None:
        numbers = model.design.bit_numbers
        self.places: dict[int, tuple[int, int]] = {}
        index: dict[tuple[str, ...], int] = {}
        for register in model.design.registers:
            for bit in register.bits:
                variable = index.setdefault(bit.path, len(index))
                self.places[numbers[bit.cell, bit.index]] = (variable, bit.offset)
        self.paths = list(index)
        self._order = [self.places[number] for number in sorted(self.places)]
        self._widths = [row["width"] for row in model.design.cut.registers]
        self.masks = self.pack([(1 << width) - 1 for width in self._widths])

    def pack(self, values: list[int]) -> list[str]:
        """Values in the order of the cut netlist -> hexadecimal value of each variable."""
        result, places = [0] * len(self.paths), iter(self._order)
        for value, width in zip(values, self._widths, strict=True):
            for i in range(width):
                variable, offset = next(places)
                result[variable] |= (value >> i & 1) << offset
        return [f"{value:x}" for value in result]


def _stops(
    faults: Faults, chosen: IntArray, golden: native.Golden, timing: native.Timing
) -> tuple[list[Json], list[int]]:
    """Injection cycles with their experiments, and the cycles whose golden state they name."""
    cycles: dict[int, int] = {}
    groups: dict[int, list[Json]] = defaultdict(list)
    starts = faults.cycle
    for i in chosen:
        cycle = int(starts[i])
        first = int(np.searchsorted(golden.done, cycle))
        watched = golden.done[first : first + timing.bound_frames]
        groups[cycle].append(
            {
                "id": int(i),
                "bits": [int(b) for b in faults.target[faults.first[i] : faults.first[i + 1]]],
                "first": first,
                "deadlines": [int(done) + timing.slack_cycles for done in watched],
                "state": cycles.setdefault(int(watched[-1]) + 1, len(cycles)),
            }
        )
    stops = [
        {"cycle": cycle, "state": cycles.setdefault(cycle, len(cycles)), "experiments": group}
        for cycle, group in sorted(groups.items())
    ]
    return stops, list(cycles)


def _with_states(stops: list[Json], text: list[list[str]]) -> list[Json]:
    """The stops with their golden states in place of the numbers of these."""
    return [
        stop
        | {"state": text[stop["state"]]}
        | {"experiments": [e | {"state": text[e["state"]]} for e in stop["experiments"]]}
        for stop in stops
    ]


def _simulate(
    program: Path,
    found: Manifest,
    words: Words,
    variables: _Variables,
    stops: list[Json],
    workers: int | None,
) -> dict[int, Json]:
    """One simulation: experiment -> what its child process wrote."""
    for stop in stops:
        for experiment in stop["experiments"]:
            experiment["flips"] = [variables.places[bit] for bit in experiment.pop("bits")]
    valid = 4 << found.input.word_bits
    with cache.scratch() as work:
        lines = [f"{valid | beat:x}" for beat in flagged(found.input, words)]
        (work / "stream.hex").write_text("\n".join(lines) + "\n")
        bench = runner.start(
            program,
            BENCH,
            ("upset",),
            work,
            random_state=False,
            stops=stops,
            paths=variables.paths,
            masks=variables.masks,
            reset_cycles=native.RESET_CYCLES,
            workers=workers or len(os.sched_getaffinity(0)),
        )
        (result,) = bench.wait()
        if not result.passed:
            raise ClaimError(f"cocotb engine: {printable(result.message)}")
        rows = [json.loads(row) for row in (work / "results.jsonl").read_text().splitlines()]
    for row in rows:
        if "failed" in row:
            raise ClaimError(f"cocotb engine: {printable(row['failed'])}")
    return {row["id"]: row for row in rows}


def _observed(
    found: Manifest, golden: native.Golden, timing: native.Timing, rows: list[Json]
) -> Observed:
    ends, events = np.zeros(len(rows), np.uint8), np.zeros(len(rows), np.uint8)
    end_cycle = np.array([row["cycle"] for row in rows], np.int64)
    visible: list[tuple[int, int, int]] = []
    words: list[Words] = []
    for number, row in enumerate(rows):
        ends[number] = End.HANG if row["hang"] else End.GOLDEN if row["golden"] else End.BOUND
        events[number] = row["events"]
        for frame, (beats, packed) in enumerate(row["frames"], row["first"]):
            flags, data = _compare(found, golden.words[frame], beats, int(packed, 16))
            if flags:
                visible.append((number, frame, flags))
                words.append(data)
    table = np.array(visible, np.int64).reshape(-1, 3)
    shape = (0, found.output.beats, found.output.word_bytes)
    stacked = np.stack(words) if words else np.zeros(shape, np.uint8)
    flagged_as = table[:, 2].astype(np.uint8)
    return Observed(ends, events, end_cycle, table[:, 0], table[:, 1], flagged_as, stacked)


def _compare(found: Manifest, golden: Words, beats: int, packed: int) -> tuple[int, Words]:
    """Flags of one received frame {err, last, first, data} x beats, and its data words."""
    layout, flags = found.output, 0
    width = layout.word_bits + 3
    data = []
    for beat, expected in enumerate(flagged(layout, golden[None])):
        word = packed >> beat * width & (1 << width) - 1 if beat < beats else expected
        err, plain = word >> (width - 1), word & (1 << width - 1) - 1
        if err:
            flags |= FrameFlag.ERR | (0 if flags & FrameFlag.WRONG else FrameFlag.FLAGGED)
        if plain != expected:
            flags |= FrameFlag.WRONG
        if plain >> layout.word_bits != expected >> layout.word_bits:
            flags |= FrameFlag.MALFORMED
        data.append(plain & (1 << layout.word_bits) - 1)
    if beats != layout.beats:
        flags |= FrameFlag.WRONG | FrameFlag.MALFORMED
    return int(flags), layout.from_ints(data)[0]


def _sources(model: NativeModel, variables: _Variables, frames: int) -> dict[str, str]:
    found = model.manifest
    names = ["clk", "rst", "frames", "beats", "words", "events"]
    lines = ["`verilator_config"]
    lines += [f'public_flat_rw -module "{probe.TOP}" -var "{name}"' for name in names]
    leaves = sorted({path[-1] for path in variables.paths})
    lines += [f'public_flat_rw -module "*" -var "{leaf}"' for leaf in leaves]
    return {
        "public.vlt": "\n".join([*lines, ""]),
        "design.v": found.verilog.read_text(encoding="utf-8"),
        "upset.sv": _wrapper(found, frames * found.input.beats),
    }


def _wrapper(found: Manifest, beats: int) -> str:
    """The design with a source that plays stream.hex and a sink that keeps the last frame."""
    source, sink = found.input, found.output
    depth, bits, width = 1 << (beats - 1).bit_length(), source.word_bits, sink.word_bits + 3
    ports = {key: name for key, name in counters(found).items() if name}
    extra = "".join(f", .{name}({key})" for key, name in ports.items())
    return f"""module {probe.TOP}(input clk, input rst);
  reg [{bits + 2}:0] stream [0:{depth - 1}];  // {{valid, last, first, data}}
  initial $readmemh("stream.hex", stream);
  reg [31:0] position, frames, count, beats;
  reg [{sink.beats * width - 1}:0] gathered, words;
  reg [1:0] events;
  wire [{bits + 2}:0] beat = rst || position >= {depth} ? 0 : stream[position];
  wire i_ready, o_valid, o_first, o_last;
  wire [{sink.word_bits - 1}:0] o_data;
  wire o_err{"" if sink.err else " = 0"}, always_ready = 1;
  wire retried{"" if "retried" in ports else " = 0"};
  wire corrected{"" if "corrected" in ports else " = 0"};
  {found.top} dut({probe.connections(found, "beat", f"beat[{bits + 2}]", "always_ready")}{extra});
  always @(posedge clk)
    if (rst) begin position <= 0; frames <= 0; count <= 0; events <= 0; end
    else begin
      if (beat[{bits + 2}] & i_ready) position <= position + 1;
      events <= events | {{corrected, retried}};
      if (o_valid) begin
        if (count < {sink.beats})
          gathered[count * {width} +: {width}] = {{o_err, o_last, o_first, o_data}};
        count <= o_last ? 0 : count + 1;
        if (o_last) begin words <= gathered; beats <= count + 1; frames <= frames + 1; end
      end
    end
endmodule
"""
