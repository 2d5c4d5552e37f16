"""Foreign names become identifiers, foreign text becomes one safe line."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.quant.names import MAX_NAME, MAX_SHOWN, printable, sanitize


@given(name=st.text(max_size=100), taken=st.sets(st.sampled_from(["a", "_", "_2", "b_2", "b"])))
def test_result_is_a_free_identifier(name, taken):
    result = sanitize(name, taken)

    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", result, flags=re.ASCII)
    assert result not in taken
    assert len(result) <= MAX_NAME
    assert sanitize(result, ()) == result


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv1", "conv1"),
        ("layer1.0.conv1", "layer1_0_conv1"),
        ("input", "n_input"),
        ("class", "n_class"),
        ("clk", "n_clk"),
        ("tap_conv1_valid", "n_tap_conv1_valid"),
        ("3x3", "_3x3"),
        ("", "_"),
        ("größe", "gr__e"),
        ("a;\n`include", "a___include"),
    ],
)
def test_examples(name, expected):
    assert sanitize(name, ()) == expected


def test_names_that_fall_together_are_numbered():
    taken = set()
    for name in ("a.b", "a-b", "a b"):
        taken.add(sanitize(name, taken))

    assert taken == {"a_b", "a_b_2", "a_b_3"}


def test_long_names_stay_short_and_apart():
    first = sanitize("x" * 500, ())

    assert len(first) == MAX_NAME
    assert sanitize("x" * 500, {first}) == "x" * (MAX_NAME - 2) + "_2"


@given(text=st.text())
def test_printable_is_one_short_line(text):
    shown = printable(text)

    assert shown.isprintable()
    assert len(shown) <= MAX_SHOWN


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert printable(text) == shown


def test_long_text_is_cut():
    assert printable("x" * 1000) == "x" * 77 + "..."
