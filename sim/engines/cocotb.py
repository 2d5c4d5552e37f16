"""The audit engine: the same experiments in cocotb, on the clocked Verilog as it was emitted.

Nothing is shared with the native engine but the list of faults and the golden record that is to be
confirmed: other netlist, other simulator code, other injector, other comparison of the outputs.
benches/upset.py runs inside the simulator.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...quant.errors import ClaimError, InputError
from ...quant.ir import IntArray
from ...quant.names import printable
from .. import cache, probe, runner, verilate
from ..checker import flagged
from ..faults import Faults, Mode
from ..manifest import Manifest, Words
from ..native_model import Design, counters
from ..outcomes import End, FrameFlag, Observed
from ..steady import Pattern, Prepared
from . import native

__all__ = ["inject", "trace"]

BENCH = "tercet.sim.benches.upset"
CHUNK = 500
PERIOD_PS = 10_000  # of the clock in benches/upset.py

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
    model = prepared.model
    order = np.argsort(faults.cycle, kind="stable")
    variables = _Variables(model.design)
    program = runner.program(_sources(prepared, variables))
    seen: dict[int, Json] = {}
    for start in range(0, len(order), CHUNK):
        chosen = order[start : start + CHUNK]
        stops, cycles = _stops(prepared, faults, chosen, variables)
        states = native.register_values(model, prepared.stimulus, np.array(cycles, np.int64))
        text = [variables.pack(state) for state in states]
        stops = _with_states(stops, text)
        seen |= _simulate(program, prepared, variables, stops, workers)
        if progress is not None:
            progress(len(chosen))
    return _observed(model.manifest, prepared.golden, [seen[i] for i in range(len(order))])


class _Variables:
    """The Verilog variables that hold flip-flops, and where each flip-flop bit lies in them; the
    memories."""

    def __init__(self, design: Design) -> None:
        numbers = design.bit_numbers
        self.places: dict[int, tuple[int, int]] = {}
        index: dict[tuple[str, ...], int] = {}
        for register in design.registers:
            for bit in register.bits:
                variable = index.setdefault(bit.path, len(index))
                self.places[numbers[bit.cell, bit.index]] = (variable, bit.offset)
        self.paths = list(index)
        self._order = [self.places[number] for number in sorted(self.places)]
        self._widths = [row["width"] for row in design.cut.registers]
        self.masks = self.pack([(1 << width) - 1 for width in self._widths])
        written = {row["memory"] for row in design.cut.writes}
        self.memories = [row["path"] for row in design.cut.memories]
        self.written = [row["array"] in written for row in design.cut.memories]
        self._offsets = [row["offset"] for row in design.cut.memories]
        self._space = design.space

    def place(self, target: int) -> list[int]:
        """[variable, position] of a flip-flop bit, [memory, address, position] of a memory bit."""
        if target < self._space.ff_bits:
            return list(self.places[target])
        for number, memory in enumerate(self._space.memories):
            if target < memory.first + memory.bits:
                address, position = divmod(target - memory.first, memory.width)
                return [number, address + self._offsets[number], position]
        raise AssertionError(f"target {target} is no bit of the Verilog")

    def pack(self, values: list[int]) -> list[str]:
        """Values in the order of the cut netlist -> hexadecimal value of each variable."""
        result, places = [0] * len(self.paths), iter(self._order)
        for value, width in zip(values, self._widths, strict=True):
            for i in range(width):
                variable, offset = next(places)
                result[variable] |= (value >> i & 1) << offset
        return [f"{value:x}" for value in result]


def _stops(
    prepared: Prepared, faults: Faults, chosen: IntArray, variables: _Variables
) -> tuple[list[Json], list[int]]:
    """Injection cycles with their experiments, and the cycles whose golden state they name."""
    cycles: dict[int, int] = {}
    groups: dict[int, list[Json]] = defaultdict(list)
    starts, slack = faults.cycle, prepared.stimulus.timing.slack_cycles
    firsts, stops = prepared.watched(faults)
    for i in chosen:
        cycle, first = int(starts[i]), int(firsts[i])
        watched = prepared.golden.done[first : stops[i]]
        events = range(faults.first[i], faults.first[i + 1])
        groups[cycle].append(
            {
                "id": int(i),
                "events": [_event(faults, event, variables) for event in events],
                "first": first,
                "deadlines": [int(done) + slack for done in watched],
                "state": cycles.setdefault(int(watched[-1]) + 1, len(cycles)),
            }
        )
    rows = [
        {"cycle": cycle, "state": cycles.setdefault(cycle, len(cycles)), "experiments": group}
        for cycle, group in sorted(groups.items())
    ]
    return rows, list(cycles)


def _event(faults: Faults, event: int, variables: _Variables) -> Json:
    """One event as the bench takes it: `value` None inverts the bit, 0 or 1 holds it."""
    mode = Mode(int(faults.mode[event]))
    value = None if mode is Mode.FLIP else int(mode is Mode.STUCK_AT_1)
    place = variables.place(int(faults.target[event]))
    return {
        "start": int(faults.start[event]),
        "stop": int(faults.stop[event]),
        "place": place,
        "value": value,
    }


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
    prepared: Prepared,
    variables: _Variables,
    stops: list[Json],
    workers: int | None,
) -> dict[int, Json]:
    """One simulation: experiment -> what its child process wrote."""
    cores = workers or len(os.sched_getaffinity(0))
    with cache.scratch() as work:
        bench = _start(program, (BENCH, "upset"), work, prepared, variables, stops, workers=cores)
        (result,) = bench.wait()
        if not result.passed:
            raise ClaimError(f"cocotb engine: {printable(result.message)}")
        rows = [json.loads(row) for row in (work / "results.jsonl").read_text().splitlines()]
    for row in rows:
        if "failed" in row:
            raise ClaimError(f"cocotb engine: {printable(row['failed'])}")
    return {row["id"]: row for row in rows}


def _start(
    program: Path,
    bench: tuple[str, str],
    work: Path,
    prepared: Prepared,
    variables: _Variables,
    stops: list[Json],
    *,
    arguments: tuple[str, ...] = (),
    **options: Any,
) -> runner.Bench:
    """Start the test `bench` (module, name) on the stimulus, in the folder `work`."""
    play, source = prepared.stimulus, prepared.model.manifest.input
    valid = 4 << source.word_bits
    work.mkdir(parents=True, exist_ok=True)
    _write_hex(work / "stream.hex", [valid | beat for beat in flagged(source, play.words)])
    _write_hex(work / "offer.hex", _pattern(play.offer))
    _write_hex(work / "ready.hex", _pattern(play.ready))
    return runner.start(
        program,
        bench[0],
        (bench[1],),
        work,
        random_state=False,
        arguments=arguments,
        stops=stops,
        paths=variables.paths,
        masks=variables.masks,
        memories=variables.memories,
        written=variables.written,
        reset_cycles=native.RESET_CYCLES,
        **options,
    )


def trace(prepared: Prepared, faults: Faults, folder: Path, files: tuple[str, str]) -> None:
    """Write the waves of one experiment and of the fault-free run beside it, from an inference
    before the fault to the end of the watch, to two VCD files in `folder`. Errors as `inject`."""
    prepared.check(faults)
    variables = _Variables(prepared.model.design)
    recipe = runner.cocotb_recipe(_sources(prepared, variables), probe.TOP, main=_trace_from)
    program = verilate.executable(dataclasses.replace(recipe, trace=True))
    stops, cycles = _stops(prepared, faults, np.arange(1), variables)
    states = native.register_values(prepared.model, prepared.stimulus, np.array(cycles, np.int64))
    stops = _with_states(stops, [variables.pack(state) for state in states])
    before = max(0, int(faults.cycle[0]) - math.ceil(prepared.initiation_interval))
    begin = (native.RESET_CYCLES + before) * PERIOD_PS
    for name, struck in zip(files, (True, False), strict=True):
        with cache.scratch() as work:
            bench = _start(
                program,
                ("tercet.sim.benches.replay", "replay"),
                work,
                prepared,
                variables,
                stops,
                arguments=("--trace", "--trace-file", "waves.vcd", f"+trace_from={begin}"),
                struck=struck,
                workers=1,
                end=max(cycles),
            )
            (result,) = bench.wait()
            if not result.passed:
                raise ClaimError(f"cocotb engine: {printable(result.message)}")
            shutil.move(work / "waves.vcd", folder / name)


def _trace_from(main: str) -> str:
    """cocotb's main program, whose trace begins at the time of the argument +trace_from=PS."""
    old = "if (tfp) {\n            tfp->dump(main_time);"
    if old not in main:
        raise InputError("cocotb: its main program is not the one that is known; use cocotb 2.1")
    match = 'Verilated::commandArgsPlusMatch("trace_from=")'
    return main.replace(old, old.replace("tfp)", f"tfp && main_time >= atoll({match} + 12))"))


def _pattern(pattern: Pattern | None) -> list[int]:
    return [1] if pattern is None else [int(bit) for bit in pattern]


def _write_hex(path: Path, values: list[int]) -> None:
    path.write_text("".join(f"{value:x}\n" for value in values))


def _observed(found: Manifest, golden: native.Golden, rows: list[Json]) -> Observed:
    ends, events = np.zeros(len(rows), np.uint8), np.zeros(len(rows), np.uint8)
    end_cycle = np.array([row["cycle"] for row in rows], np.int64)
    detected = np.array([row["detected"] for row in rows], np.int64)
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
    visible_rows = table[:, 0], table[:, 1], flagged_as, stacked
    return Observed(ends, events, end_cycle, detected, *visible_rows)


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


def _sources(prepared: Prepared, variables: _Variables) -> dict[str, str]:
    found, play = prepared.model.manifest, prepared.stimulus
    names = ["clk", "rst", "frames", "beats", "words", "events", "detected"]
    lines = ["`verilator_config"]
    lines += [f'public_flat_rw -module "{probe.TOP}" -var "{name}"' for name in names]
    leaves = sorted({path[-1] for path in variables.paths + variables.memories})
    lines += [f'public_flat_rw -module "*" -var "{leaf}"' for leaf in leaves]
    depths = [len(play.words) * found.input.beats]
    depths += [len(_pattern(pattern)) for pattern in (play.offer, play.ready)]
    return {
        "public.vlt": "\n".join([*lines, ""]),
        "design.v": found.verilog.read_text(encoding="utf-8"),
        "upset.sv": _wrapper(found, *depths),
    }


def _wrapper(found: Manifest, beats: int, offers: int, readies: int) -> str:
    """The design with a source that plays stream.hex and a sink that keeps the last frame, both
    with stall patterns that are repeated from cycle 0 on."""
    source, sink = found.input, found.output
    depth, bits, width = 1 << (beats - 1).bit_length(), source.word_bits, sink.word_bits + 3
    ports = {key: name for key, name in counters(found).items() if name}
    extra = "".join(f", .{name}({key})" for key, name in ports.items())
    return f"""module {probe.TOP}(input clk, input rst);
  reg [{bits + 2}:0] stream [0:{depth - 1}];  // {{valid, last, first, data}}
  reg offer [0:{offers - 1}], ready [0:{readies - 1}];
  initial $readmemh("stream.hex", stream);
  initial $readmemh("offer.hex", offer);
  initial $readmemh("ready.hex", ready);
  reg [31:0] position, frames, count, beats, offered, readied, cycle, detected;
  reg [{sink.beats * width - 1}:0] gathered, words;
  reg [1:0] events;
  wire offers = ~rst & position < {depth} & offer[offered];
  wire [{bits + 2}:0] beat = offers ? stream[position] : 0;
  wire i_ready, o_valid, o_first, o_last;
  wire [{sink.word_bits - 1}:0] o_data;
  wire o_err{"" if sink.err else " = 0"}, o_ready = rst | ready[readied];
  wire retried{"" if "retried" in ports else " = 0"};
  wire corrected{"" if "corrected" in ports else " = 0"};
  {found.top} dut({probe.connections(found, "beat", f"beat[{bits + 2}]", "o_ready")}{extra});
  always @(posedge clk)
    if (rst) begin
      position <= 0; frames <= 0; count <= 0; events <= 0; offered <= 0; readied <= 0;
      cycle <= 0; detected <= -1;
    end else begin
      offered <= offered == {offers - 1} ? 0 : offered + 1;
      readied <= readied == {readies - 1} ? 0 : readied + 1;
      if (beat[{bits + 2}] & i_ready) position <= position + 1;
      events <= events | {{corrected, retried}};
      cycle <= cycle + 1;
      if (o_valid & o_ready & o_err & &detected) detected <= cycle;
      if (o_valid & o_ready) begin
        if (count < {sink.beats})
          gathered[count * {width} +: {width}] = {{o_err, o_last, o_first, o_data}};
        count <= o_last ? 0 : count + 1;
        if (o_last) begin words <= gathered; beats <= count + 1; frames <= frames + 1; end
      end
    end
endmodule
"""
