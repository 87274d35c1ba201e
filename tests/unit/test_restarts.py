"""A worker that served is started again for ever, one that never did only a few times."""

from __future__ import annotations

import pytest

from gateway.core.timing import Backoff
from gateway.supervisor import LONGEST_PAUSE_SECONDS, Restarts, exit_status

CRASH = -11


def restarts(jitter: float = 1.0) -> Restarts:
    return Restarts(Backoff(lambda: jitter, LONGEST_PAUSE_SECONDS))


@pytest.mark.parametrize(("jitter", "factor"), [(0.0, 0.5), (1.0, 1.0)])
def test_pauses_double_up_to_ten_seconds_and_are_jittered(jitter: float, factor: float) -> None:
    history = restarts(jitter)
    pauses = [history.pause_after(CRASH, 1.0) for _ in range(9)]
    expected = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert pauses == pytest.approx([factor * each for each in expected])


def test_after_a_long_service_the_pauses_begin_anew() -> None:
    history = restarts()
    assert [history.pause_after(CRASH, 29.0) for _ in range(3)] == pytest.approx([0.1, 0.2, 0.4])
    assert history.pause_after(CRASH, 30.0) == pytest.approx(0.1)


def test_a_mistake_in_the_configuration_is_the_end_at_once() -> None:
    assert restarts().pause_after(2, None) is None


@pytest.mark.parametrize("code", [0, 1, CRASH])
def test_a_worker_that_never_served_is_tried_five_times(code: int) -> None:
    history = restarts()
    pauses = [history.pause_after(code, None) for _ in range(5)]
    assert None not in pauses[:4]
    assert pauses[4] is None


@pytest.mark.parametrize("code", [1, 2, CRASH])
def test_one_that_has_served_is_tried_for_ever(code: int) -> None:
    history = restarts()
    history.pause_after(CRASH, 0.0)
    assert None not in [history.pause_after(code, None) for _ in range(100)]


@pytest.mark.parametrize(("code", "status"), [(0, 0), (2, 2), (-9, 137), (-15, 143)])
def test_a_status_is_told_as_a_shell_tells_it(code: int, status: int) -> None:
    assert exit_status(code) == status
