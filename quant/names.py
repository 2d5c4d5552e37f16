"""Names from models: safe identifiers for Verilog, C++ and file names, and safe text to show."""

from __future__ import annotations

import re
from collections.abc import Container

__all__ = ["printable", "sanitize"]

MAX_NAME = 64
MAX_SHOWN = 80

# IEEE 1800-2017 annex B, C++23 [lex.key], Tcl has no reserved words.
_WORDS = """
accept_on alias alignas alignof always always_comb always_ff always_latch and and_eq asm assert
assign assume auto automatic before begin bind bins binsof bit bitand bitor bool break buf bufif0
bufif1 byte case casex casez catch cell chandle char char16_t char32_t char8_t checker class
clocking cmos co_await co_return co_yield compl concept config const const_cast consteval
constexpr constinit constraint context continue cover covergroup coverpoint cross deassign
decltype default defparam delete design disable dist do double dynamic_cast edge else end endcase
endchecker endclass endclocking endconfig endfunction endgenerate endgroup endinterface endmodule
endpackage endprimitive endprogram endproperty endsequence endspecify endtable endtask enum event
eventually expect explicit export extends extern false final first_match float for force foreach
forever fork forkjoin friend function generate genvar global goto highz0 highz1 if iff ifnone
ignore_bins illegal_bins implements implies import incdir include initial inline inout input
inside instance int integer interconnect interface intersect join join_any join_none large let
liblist library local localparam logic long longint macromodule matches medium modport module
mutable namespace nand negedge nettype new nexttime nmos noexcept nor noshowcancelled not not_eq
notif0 notif1 null nullptr operator or or_eq output package packed parameter pmos posedge
primitive priority private program property protected public pull0 pull1 pulldown pullup
pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase randsequence rcmos real realtime
ref reg register reinterpret_cast reject_on release repeat requires restrict return rnmos rpmos
rtran rtranif0 rtranif1 s_always s_eventually s_nexttime s_until s_until_with scalared sequence
short shortint shortreal showcancelled signed sizeof small soft solve specify specparam static
static_assert static_cast string strong strong0 strong1 struct super supply0 supply1 switch
sync_accept_on sync_reject_on table tagged task template this thread_local throughout throw time
timeprecision timeunit tran tranif0 tranif1 tri tri0 tri1 triand trior trireg true try type
typedef typeid typename union unique unique0 unsigned until until_with untyped use using uwire var
vectored virtual void volatile wait wait_order wand wchar_t weak weak0 weak1 while wildcard wire
with within wor xnor xor xor_eq
"""
_KEYWORDS = frozenset(_WORDS.split())
# What module top declares itself.
_PORTS = frozenset({"clk", "rst", "top"}) | {
    f"{way}_{part}"
    for way in ("i", "o")
    for part in ("valid", "ready", "data", "first", "last", "err")
}


def _reserved(name: str) -> bool:
    return name in _KEYWORDS or name in _PORTS or name.startswith(("tap_", "to_", "head__"))


def sanitize(name: str, taken: Container[str]) -> str:
    """An identifier made from `name` that is not in `taken`.

    It matches [A-Za-z_][A-Za-z0-9_]*, has at most 64 characters and is no keyword of Verilog,
    SystemVerilog or C++ and no name of the top module. A good, free name comes back unchanged.
    """
    stem = re.sub(r"[^A-Za-z0-9_]", "_", name[:MAX_NAME], flags=re.ASCII)
    if not stem or stem[0].isdigit():
        stem = f"_{stem}"
    if _reserved(stem):
        stem = f"n_{stem}"
    stem = stem[:MAX_NAME]
    number, result = 2, stem
    while result in taken:
        suffix = f"_{number}"
        number, result = number + 1, stem[: MAX_NAME - len(suffix)] + suffix
    return result


def printable(text: str) -> str:
    """`text` on one line for a message: unprintable characters escaped, cut at 80 characters."""
    head = text[: MAX_SHOWN + 1]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in head)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[: MAX_SHOWN - 3]}..."
