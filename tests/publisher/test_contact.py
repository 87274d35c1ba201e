"""What the log is told of a primary that is lost, and which server an error names."""

from __future__ import annotations

import threading

import pytest

from publisher.errors import Rejected, Unavailable
from publisher.retrying import Retries
from publisher.transport.blocking import Connections
from publisher.transport.contact import TOLD_AGAIN_SECONDS, Contact
from publisher.transport.flows import round_trips


def refused() -> Unavailable:
    return Unavailable("refused", maybe_sent=False)


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def contact(now: list[float]) -> Contact:
    return Contact(lambda: "a:1", lambda: now[0])


def test_a_loss_and_its_end_are_told_once_each(contact: Contact, caplog: pytest.LogCaptureFixture):
    contact.answered()
    for _ in range(1_000):
        contact.failed(refused())
    assert caplog.messages == ["primary_lost server=a:1 reason='refused'"]
    for _ in range(1_000):
        contact.answered()
    assert caplog.messages[1:] == ["primary_reached server=a:1 failed_tries=1000"]


def test_what_comes_and_goes_is_told_at_a_bounded_rate(
    contact: Contact, now: list[float], caplog: pytest.LogCaptureFixture
):
    for _ in range(1_000):
        now[0] += TOLD_AGAIN_SECONDS / 100
        contact.failed(refused())
        contact.answered()
    assert len(caplog.messages) == 20
    # None is left open: the last word is that it is there.
    assert caplog.messages[-1].startswith("primary_reached")


def test_one_that_is_lost_again_soon_is_told_of_later(
    contact: Contact, now: list[float], caplog: pytest.LogCaptureFixture
):
    contact.failed(refused())
    contact.answered()
    caplog.clear()
    contact.failed(refused())
    assert not caplog.messages
    now[0] += TOLD_AGAIN_SECONDS
    contact.failed(refused())
    assert len(caplog.messages) == 1


def test_what_fails_because_connections_are_given_up_is_no_loss(
    contact: Contact, caplog: pytest.LogCaptureFixture
):
    contact.given_up()
    contact.failed(refused())
    contact.answered()
    assert not caplog.messages


def test_the_error_names_the_server_and_what_no_try_mends_is_not_logged(
    contact: Contact, caplog: pytest.LogCaptureFixture
):
    error = Rejected("authentication failed", maybe_sent=False)
    contact.failed(error)
    assert str(error).startswith("Redis rejected the call (a:1: authentication failed)")
    assert not caplog.messages


def test_of_threads_that_notice_it_together_one_tells(caplog: pytest.LogCaptureFixture):
    waiting = threading.Barrier(8)

    class Slow(dict[str, object]):
        """Lets all look before the first writes."""

        def __bool__(self) -> bool:
            empty = len(self) == 0
            waiting.wait(10)
            return not empty

    contact = Contact(lambda: "a:1")
    contact._lost = Slow()
    threads = [threading.Thread(target=contact.failed, args=(refused(),)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(caplog.messages) == 1


class Full:
    """A server to which there may be no connection more."""

    most = 0
    stale = False


def test_that_all_connections_are_in_use_says_nothing_of_the_server(
    contact: Contact, caplog: pytest.LogCaptureFixture
):
    connections = Connections(Full(), 0.0, contact)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="in use for too long") as caught:
        connections.run(round_trips([]))
    assert not caught.value.server
    assert not caplog.messages


def test_of_refusals_with_the_same_code_one_in_a_while_is_logged(
    now: list[float], caplog: pytest.LogCaptureFixture
):
    retries = Retries(3, lambda: 1.0, clock=lambda: now[0])
    for number in range(1_000):
        retries.tell(Unavailable(f"OOM {number}", maybe_sent=False))
        retries.tell(Unavailable(f"LOADING {number}", maybe_sent=False))
    assert caplog.messages == [
        "redis_unavailable reason='OOM 0' maybe_sent=False",
        "redis_unavailable reason='LOADING 0' maybe_sent=False",
    ]
    now[0] += TOLD_AGAIN_SECONDS
    retries.tell(Unavailable("OOM again", maybe_sent=False))
    # Of a server that does not answer the contact with it tells.
    retries.tell(Unavailable("refused", maybe_sent=False, server="a:1"))
    assert len(caplog.messages) == 3
