"""What a node holds of what it is asked to, by the files that it may open."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.capacity import capacity


def test_where_there_are_files_enough_a_node_holds_what_it_is_asked_to() -> None:
    found = capacity(32_768, 20_000, None)
    assert (found.connections, found.unauthenticated) == (20_000, 10_000)
    assert capacity(32_768, 20_000, 7).unauthenticated == 7


@given(st.integers(0, 10_000_000), st.integers(1, 100_000), st.none() | st.integers(1, 100_000))
def test_files_are_left_to_everything_else(
    files: int, connections: int, unauthenticated: int | None
) -> None:
    found = capacity(files, connections, unauthenticated)
    assert 1 <= found.connections <= connections
    assert 1 <= found.unauthenticated <= (unauthenticated or 10_000)
    if files >= 130:
        # Some newcomers are heard beside clients; a further one makes room; then none is accepted.
        assert found.connections < files - 128
        assert found.crowded_file == files - 64
        assert found.crowded_file < found.last_file <= files - 32
