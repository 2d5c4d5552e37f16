"""The Verilog wrapper that a bench drives: the design, and registers that sample its streams.

Reading a signal from Python costs more than a whole simulated cycle, so the wrapper gathers what a
bench wants: `moved` has one bit a stream that is 1 if a beat was transferred at the last rising
edge (bit 0 the input, bit 1 the output, then the taps), `word_<k>` holds the last beat of stream
k >= 1 as {err, last, first, data}, `tick` changes whenever the input or the output moves, and
`unstable` keeps one bit a stream that once dropped or changed a beat which was offered and not
taken. The design itself is not changed.
"""

from collections.abc import Iterable, Sequence

from .manifest import Manifest, Register, Stream

__all__ = ["TOP", "connections", "control_file", "wrapper"]

TOP = "tercet_probe"


def wrapper(manifest: Manifest) -> str:
    """SystemVerilog of module tercet_probe: ports clk, rst, drive {o_ready, i_valid}, word."""
    streams = [manifest.output, *(tap.stream for tap in manifest.taps)]
    numbers = range(1, len(streams) + 1)
    moved = ", ".join([*(f"m{k}" for k in reversed(numbers)), "drive[0] & i_ready"])
    lines = [
        f"module {TOP}(input clk, input rst, input [1:0] drive,",
        f"             input [{manifest.input.word_bits + 1}:0] word);",
        f"  reg [{len(streams)}:0] moved, unstable;",
        "  reg tick;",
        f"  wire i_ready, o_valid, o_first, o_last, o_err{'' if manifest.output.err else ' = 0'};",
        f"  wire [{manifest.output.word_bits - 1}:0] o_data;",
        f"  {manifest.top} dut({connections(manifest, 'word', 'drive[0]', 'drive[1]')});",
        *_sampler(
            1, manifest.output, ("o_err", "o_last", "o_first", "o_data"), "o_valid", "drive[1]"
        ),
    ]
    for k, stream in enumerate(streams[1:], 2):
        beat = [stream.err, stream.last, stream.first, stream.data]
        parts = [f"dut.{name}" if name else "1'b0" for name in beat]
        lines += _sampler(k, stream, parts, f"dut.{stream.valid}", f"dut.{stream.ready}")
    lines += ["  always @(posedge clk) begin", f"    moved <= rst ? 0 : {{{moved}}};"]
    lines += ["    tick <= tick ^ (~rst & (m1 | (drive[0] & i_ready)));"]
    lines += [f"    unstable[{k}] <= ~rst & (unstable[{k}] | u{k});" for k in numbers]
    return "\n".join([*lines, "    unstable[0] <= 0;", "  end", "endmodule", ""])


def connections(manifest: Manifest, beat: str, valid: str, ready: str) -> str:
    """Port connections of the top module to clk, rst, i_ready and o_valid, o_data, o_first, ...

    `beat` names a wire {last, first, data} of the input; `valid` and `ready` are expressions.
    """
    source, sink = manifest.input, manifest.output
    bits = source.word_bits
    pairs = [(manifest.clock, "clk"), (manifest.reset, "rst")]
    pairs += [(source.valid, valid), (source.ready, "i_ready")]
    pairs += [(source.data, f"{beat}[{bits - 1}:0]"), (source.first, f"{beat}[{bits}]")]
    pairs += [(source.last, f"{beat}[{bits + 1}]"), (sink.ready, ready)]
    pairs += [(sink.valid, "o_valid"), (sink.data, "o_data")]
    pairs += [(sink.first, "o_first"), (sink.last, "o_last")]
    pairs += [(sink.err, "o_err")] if sink.err else []
    return ", ".join(f".{port}({value})" for port, value in pairs)


def _sampler(k: int, stream: Stream, beat: Sequence[str], valid: str, ready: str) -> list[str]:
    """The registers of stream `k`; `beat` holds the expressions of err, last, first and data."""
    high = stream.word_bits + 2
    return [
        f"  wire v{k} = {valid};",
        f"  wire m{k} = v{k} & {ready};",
        f"  wire [{high}:0] b{k} = {{{', '.join(beat)}}};",
        f"  reg [{high}:0] word_{k}, held_{k};",
        f"  reg waiting_{k};",
        f"  wire u{k} = waiting_{k} & (~v{k} | (b{k} != held_{k}));",
        "  always @(posedge clk) begin",
        f"    if (m{k}) word_{k} <= b{k};",
        f"    held_{k} <= b{k};",
        f"    waiting_{k} <= ~rst & v{k} & ~m{k};",
        "  end",
    ]


def control_file(manifest: Manifest, registers: Iterable[Register] = ()) -> str:
    """The .vlt text that makes the wrapper's signals and these registers visible, nothing else.

    A module's name need not follow its path, so a register is published by its last name in every
    module that has one of that name.
    """
    streams = len(manifest.taps) + 1
    names = ["clk", "rst", "drive", "word", "moved", "tick", "unstable"]
    names += [f"word_{k}" for k in range(1, streams + 1)]
    lines = ["`verilator_config"]
    lines += [f'public_flat_rw -module "{TOP}" -var "{name}"' for name in names]
    leaves = sorted({register.name.rsplit(".", 1)[-1] for register in registers})
    lines += [f'public_flat_rw -module "*" -var "{leaf}"' for leaf in leaves]
    return "\n".join([*lines, ""])
