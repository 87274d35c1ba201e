"""Tests that share something large run in one place, which pytest-xdist has left out before without a word."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("one place")
def test_tests_of_a_group_run_in_one_place(request: pytest.FixtureRequest) -> None:
    if not getattr(request.config.option, "loadgroup", False):
        return  # there is one place only
    # pytest-xdist knows the group by this.
    assert request.node.nodeid.endswith("@one place")
