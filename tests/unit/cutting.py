"""A stream of frames, and how the network cuts it."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import strategies as st


@st.composite
def cut(draw: st.DrawFn, frames: list[bytes]) -> list[bytes]:
    """The stream in pieces: anywhere, and often where a frame ends, which is what clients do."""
    stream = b"".join(frames)
    ends = list(accumulate(map(len, frames)))
    chosen = {end for end in ends if draw(st.booleans())}
    if stream:
        chosen |= draw(st.sets(st.integers(0, len(stream)), max_size=5))
    places = sorted({0, len(stream)} | chosen)
    return [stream[start:end] for start, end in pairwise(places)]
