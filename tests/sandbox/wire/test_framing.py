"""Frames are found however the stream is cut, and never larger than allowed."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.errors import ValueRefused
from anabranch.sandbox.wire import Frames, Message, decode, encode, layout, pack, slices

VALUES: list[Any] = [1, b"x" * 600, {"a": (np.arange(5), b"y" * 700)}, [], "end"]
STREAM = b"".join(
    b"".join(pack(kind, encode(value, max_bytes=10**4)))
    for kind, value in enumerate(VALUES)
)


def read(frames: list[Any]) -> list[str]:
    return [repr(decode(f.header, f.buffers, max_bytes=10**4)) for f in frames]


@given(st.lists(st.integers(0, len(STREAM))))
def test_a_stream_may_be_cut_anywhere(cuts: list[int]):
    frames = Frames(10**4)
    found: list[Any] = []
    places = [0, *sorted(cuts), len(STREAM)]
    for start, stop in pairwise(places):
        found += frames.feed(STREAM[start:stop])
    assert [frame.kind for frame in found] == [0, 1, 2, 3, 4]
    assert read(found) == [repr(value) for value in VALUES]
    assert not frames.pending


def test_a_reader_that_takes_what_is_wanted_ends_with_the_frame():
    frames, at = Frames(10**4), 0
    found: list[Any] = []
    while not found:
        piece = STREAM[at : at + frames.wanted]
        at += len(piece)
        found = frames.feed(piece)
    assert at == len(pack(0, encode(1, max_bytes=99))[0])


def test_a_stream_that_ends_within_a_frame_is_seen_to():
    one = b"".join(pack(1, encode(VALUES[2], max_bytes=10**4)))
    for end in range(1, len(one)):
        frames = Frames(10**4)
        assert frames.feed(one[:end]) == []
        assert frames.pending


def test_buffers_out_of_band_are_named_by_their_size():
    message = encode((np.arange(100), b"z" * 5000), max_bytes=10**4)
    stream = b"".join(pack(3, message, out_of_band=True))
    (frame,) = Frames(10**4).feed(stream)
    assert frame.away == frame.sizes == (800, 5000)
    assert frame.buffers == (None, None)
    mapping = bytearray(message.mapped_bytes)
    message.write_into(memoryview(mapping))
    array, data = decode(
        frame.header, slices(memoryview(mapping), frame.away), max_bytes=10**4
    )
    assert (array.sum(), data) == (4950, b"z" * 5000)


def test_buffers_lie_where_numbers_may():
    starts, end = layout([1, 64, 0, 7])
    assert starts == [0, 64, 128, 128]
    assert end == 135
    with pytest.raises(ValueError, match="cannot hold"):
        slices(memoryview(bytes(134)), [1, 64, 0, 7])


@pytest.mark.parametrize(
    "start",
    [
        struct.pack("<B3xIQ", 1, 0, 2**63),
        struct.pack("<B3xIQ", 1, 2**32 - 1, 1),
        struct.pack("<B3xIQQ", 1, 1, 1, 2**62),
        struct.pack("<B3xIQQ", 1, 1, 1, 2**63 + 1000),
        struct.pack("<B3xIQQQ", 1, 2, 1, 600, 600),
    ],
    ids=["header", "buffers", "buffer", "out of band", "together"],
)
def test_a_frame_that_claims_too_much_is_refused_before_it_is_kept(start: bytes):
    frames = Frames(1000)
    with pytest.raises(ValueRefused, match=r"are allowed|may be"):
        frames.feed(start)
    with pytest.raises(ValueRefused):
        frames.feed(b"")


def test_a_frame_as_large_as_allowed_is_taken_and_one_larger_is_not():
    message = Message(b"p1", [(b"x" * 998,)])
    stream = b"".join(pack(1, message))
    assert len(Frames(1000).feed(stream)) == 1
    with pytest.raises(ValueRefused, match="a frame takes 1000 bytes, and 999 are allowed"):
        Frames(999).feed(stream)


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_frames_or_refused(noise: bytes, at: int):
    frames = Frames(10**4)
    try:
        found = frames.feed(STREAM[:at] + noise + STREAM[at:])
    except ValueRefused:
        return
    for frame in found:
        assert len(frame.header) + sum(frame.sizes) <= 10**4
