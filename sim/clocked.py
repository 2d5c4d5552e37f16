"""Run many frames through the Verilog quickly: a C++ harness clocks the Verilated design.

No Python runs per cycle, nothing in the design is made visible, so a cycle costs what Verilator's
code costs. The benches (verify.py) check the protocol; this only runs.
"""

import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np

from ..quant.errors import ClaimError, InputError
from ..quant.ir import IntArray
from ..quant.names import printable
from . import cache, manifest, probe, verilate
from .manifest import Manifest

__all__ = ["run_frames"]

TOP = "tercet_clocked"
TIMEOUT_S = 24 * 3600


def run_frames(directory: Path, x: IntArray) -> IntArray:
    """The output frames int64 [n, *shape] of the Verilog in DIR for x int64 [n, *input_shape].

    Raises InputError for a directory or frames that do not fit, ClaimError if the design hangs,
    raises err or breaks the frame markers.
    """
    found = manifest.load(directory)
    try:
        words = found.input.pack(np.asarray(x).reshape(len(x), *found.input.shape))
    except ValueError as error:
        raise InputError(f"input frames do not fit {directory}: {error}") from None
    if not len(words):
        return np.zeros((0, *found.output.shape), np.int64)
    program = verilate.executable(_recipe(found))
    with cache.scratch() as work:
        (work / "in").write_bytes(words.tobytes())
        patience = 4 * found.latency_cycles + 1000
        command = [str(program), "in", "out", str(len(words)), str(patience)]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode:
            reason = done.stderr.strip() or f"the model ended with status {done.returncode}"
            raise ClaimError(f"{directory}: {printable(reason)}")
        result = np.fromfile(work / "out", np.uint8)
    return found.output.unpack(result.reshape(-1, found.output.beats, found.output.word_bytes))


def _recipe(found: Manifest) -> verilate.Recipe:
    source, sink = found.input, found.output
    sizes = {"I_BEATS": source.beats, "I_BYTES": source.word_bytes}
    sizes |= {"O_BEATS": sink.beats, "O_BYTES": sink.word_bytes}
    defines = "".join(f"#define {name} {value}\n" for name, value in sizes.items())
    main = (files(__package__) / "engines" / "clocked.cpp").read_text(encoding="utf-8")
    sources = {
        "design.v": found.verilog.read_text(encoding="utf-8"),
        "clocked.sv": _wrapper(found),
    }
    return verilate.Recipe(sources, TOP, defines + main, optimise="-O2")


def _wrapper(found: Manifest) -> str:
    """A module with fixed port names around the design, whatever the manifest calls its ports."""
    source, sink = found.input, found.output
    return "\n".join(
        [
            f"module {TOP}(input clk, input rst, input i_valid, output i_ready,",
            f"  input [{source.word_bits - 1}:0] i_data, input i_first, input i_last,",
            f"  output o_valid, input o_ready, output [{sink.word_bits - 1}:0] o_data,",
            "  output o_first, output o_last, output o_err);",
            f"  wire [{source.word_bits + 1}:0] beat = {{i_last, i_first, i_data}};",
            "" if sink.err else "  assign o_err = 0;",
            f"  {found.top} dut({probe.connections(found, 'beat', 'i_valid', 'o_ready')});",
            "endmodule",
            "",
        ]
    )
