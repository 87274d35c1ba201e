"""What a subscription does with live messages before it is live."""

from __future__ import annotations

import pytest

from gateway.node import connection as module
from gateway.node.connection import Subscription
from tests.unit.fakes import NEWS, logged, make_connection, unlogged


@pytest.fixture
def subscription() -> Subscription:
    subscription = Subscription(make_connection()[0], NEWS)
    subscription.read()
    return subscription


def test_while_it_reads_it_holds_everything(subscription: Subscription) -> None:
    messages = [logged(1), unlogged(2), logged(3)]
    assert [subscription.offer(message) for message in messages] == [False, False, False]
    assert subscription.held == messages


def test_what_it_cannot_hold_is_noted_and_not_kept(
    subscription: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_HELD", 2)
    for id_ in (1, 2, 3):
        assert not subscription.offer(logged(id_))
    assert [message.id for message in subscription.held] == [1, 2]
    assert subscription.overflowed


def test_reading_on_begins_with_empty_hands(
    subscription: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_HELD", 0)
    subscription.offer(logged(1))
    subscription.read()
    assert subscription.held == []
    assert not subscription.overflowed


def test_once_it_has_read_it_goes_live_with_the_first_newer_message(
    subscription: Subscription,
) -> None:
    subscription.reading = False
    subscription.position = 5
    assert not subscription.offer(logged(4))
    assert not subscription.offer(logged(5))
    assert subscription.offer(logged(6))


def test_a_message_without_a_log_is_always_newer(subscription: Subscription) -> None:
    subscription.reading = False
    subscription.position = 5
    assert subscription.offer(unlogged(1))


def test_who_stops_reading_keeps_nothing_and_says_what_no_log_has(
    subscription: Subscription,
) -> None:
    for message in (logged(1), unlogged(2), unlogged(3)):
        subscription.offer(message)
    assert subscription.stop_reading() == 2
    assert subscription.held == []
    assert not subscription.reading
