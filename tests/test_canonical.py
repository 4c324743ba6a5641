"""kelou/canonical.py: RFC 6376 section 3.4 to the letter, and linear."""

from __future__ import annotations

import time

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from kelou import canonical

LINES = st.lists(st.text("a \t\r", max_size=6), max_size=6).map(lambda lines: "".join(line + "\r\n" for line in lines).encode())


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        pytest.param(b"", b"\r\n", b"", id="nothing"),
        pytest.param(b"\r\n\r\n", b"\r\n", b"", id="empty lines"),
        pytest.param(b" \r\n\t\r\n", b" \r\n\t\r\n", b"", id="lines of blanks"),
        pytest.param(b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n", b" C\r\nD E\r\n", id="the example of section 3.4.5"),
        pytest.param(b"a ", b"a \r\n", b"a\r\n", id="no line end at the end"),
        pytest.param(b"a\r\n\n\r\n", b"a\r\n\n\r\n", b"a\r\n\n\r\n", id="a line feed alone is no line end"),
        pytest.param(b"a\r\r\n", b"a\r\r\n", b"a\r\r\n", id="a carriage return alone is none either"),
    ],
)
def test_bodies(body: bytes, simple: bytes, relaxed: bytes) -> None:
    """Both canonical forms of a body."""
    assert canonical.simple_body(body) == simple
    assert canonical.relaxed_body(body) == relaxed


def test_fields() -> None:
    """The example of section 3.4.5, relaxed."""
    assert canonical.relaxed_fields([(b"A", b" X\r\n"), (b"B ", b" Y\t\r\n\tZ  \r\n")]) == [(b"a", b"X\r\n"), (b"b", b"Y Z\r\n")]


@given(LINES)
def test_bodies_are_what_dkimpy_says(body: bytes) -> None:
    """dkimpy canonicalises bodies that end in a line end to the same bytes, slowly."""
    assert canonical.simple_body(body) == Simple.canonicalize_body(body)
    assert canonical.relaxed_body(body) == Relaxed.canonicalize_body(body)


@given(st.lists(st.tuples(st.sampled_from([b"A", b"sUbject"]), st.text("a \t", max_size=9).map(lambda v: v.encode() + b"\r\n")), max_size=3))
def test_fields_are_what_dkimpy_says(fields: list[tuple[bytes, bytes]]) -> None:
    """dkimpy canonicalises fields to the same bytes."""
    assert canonical.relaxed_fields(fields) == Relaxed.canonicalize_headers(fields)


@pytest.mark.parametrize("unit", [b" ", b"\r\n", b"\r", b"\n", b" \r\n", b"\t x", b"\n\r"])
def test_time_is_linear(unit: bytes) -> None:
    """Four megabytes of anything take a second, where dkimpy would need hours."""
    body = unit * (4_000_000 // len(unit)) + b"x"
    start = time.process_time()
    canonical.relaxed_body(canonical.crlf(body))
    canonical.simple_body(body)
    canonical.relaxed_fields([(b"x", body)])
    assert time.process_time() - start < 5
