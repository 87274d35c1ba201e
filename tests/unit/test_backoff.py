"""Pauses grow, differ between nodes, and stay short enough."""

from __future__ import annotations

import pytest

from gateway.core.timing import Backoff


@pytest.mark.parametrize(("jitter", "factor"), [(0.0, 0.5), (1.0, 1.0)])
def test_pauses_double_up_to_a_second_and_are_jittered_down_to_half(
    jitter: float, factor: float
) -> None:
    backoff = Backoff(lambda: jitter)
    pauses = [backoff.next() / factor for _ in range(7)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])


def test_after_a_success_they_begin_anew() -> None:
    backoff = Backoff(lambda: 1.0)
    backoff.next()
    backoff.next()
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)
