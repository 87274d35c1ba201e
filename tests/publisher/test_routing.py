"""How a round trip is led through a cluster whose slots move."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError

from publisher.contract.calls import Call, Wait
from publisher.errors import Unavailable
from publisher.transport.cluster import SLOTS, Cluster, Map, Slots, slot_of
from publisher.transport.flows import RoundTrip
from publisher.transport.redis_py import Connector, Host
from publisher.transport.routing import host_of, route

A, B = ("a", 1), ("b", 2)
X, Y = Call(("GET", "x")), Call(("GET", "y"))
MOVED = f"MOVED {slot_of('x')} b:2"
ASK = f"ASK {slot_of('x')} b:2"


@pytest.fixture
def known() -> Map:
    known = Map(Cluster((A,), Connector(object, {}, 1)), lambda: 0.0)
    known.slots = Slots([(0, SLOTS - 1, A)])
    return known


def play(known: Map, step: RoundTrip, *answers: Any) -> tuple[Any, list[tuple[Host, list[str]]]]:
    """Answer the hops; returns the replies, and what was sent where."""
    sent: list[tuple[Host, list[str]]] = []
    flow = route(known, step, host_of(known, step))
    waiting = list(answers)
    try:
        hop = next(flow)
        while True:
            sent.append((hop.host, [str(call.arguments[-1]) for call in hop.step.calls]))
            answer = waiting.pop(0)
            if isinstance(answer, Unavailable):
                hop = flow.throw(answer)
            else:
                replies = [
                    ResponseError(each) if isinstance(each, str) else each for each in answer
                ]
                hop = flow.send(replies)
    except StopIteration as done:
        return [str(e) if isinstance(e, ResponseError) else e for e in done.value], sent


def test_only_what_was_moved_is_sent_again(known: Map):
    replies, sent = play(known, RoundTrip([X, Y, X]), [MOVED, 2, MOVED], [1, 3])
    assert replies == [1, 2, 3]
    assert sent == [(A, ["x", "y", "x"]), (B, ["x", "x"])]
    assert known.owner("x") == B
    assert known.owner("y") == A


def test_ask_leads_elsewhere_this_once(known: Map):
    replies, sent = play(known, RoundTrip([X, Y]), [ASK, 2], [b"OK", 1])
    assert replies == [1, 2]
    assert sent[1] == (B, ["ASKING", "x"])
    assert known.owner("x") == A


def test_nothing_overtakes_a_call_that_is_to_be_tried_again(known: Map):
    replies, sent = play(known, RoundTrip([X, Y, X]), ["TRYAGAIN later", 2, MOVED])
    assert [each[:8] if isinstance(each, str) else each for each in replies] == [
        *("TRYAGAIN", 2, "TRYAGAIN")
    ]
    assert len(sent) == 1


def test_servers_that_lead_to_each_other_are_left_after_a_few_times(known: Map):
    back = f"MOVED {slot_of('x')} a:1"
    replies, sent = play(known, RoundTrip([X]), *([[MOVED], [back]] * 5))
    assert replies[0].startswith("TRYAGAIN")
    assert len(sent) == 6


def test_replicas_are_counted_where_the_fewest_are(known: Map):
    replies, _ = play(known, RoundTrip([X, Y], Wait(1, 1.0)), [MOVED, 2, 3], [1, 1])
    assert replies == [1, 2, 1]


NO_REPLICAS, A_REPLICA = 0, "ERR WAIT cannot be used with replica instances"


@pytest.mark.parametrize("count", [NO_REPLICAS, A_REPLICA])
@pytest.mark.parametrize("error", [MOVED, ASK])
def test_of_a_server_that_has_carried_nothing_out_replicas_are_not_counted(
    known: Map, error: str, count: Any
):
    """After a failover the former primary cannot wait for any, and what it has led away is confirmed elsewhere."""
    further = [b"OK", 1, 2] if error is ASK else [1, 2]
    replies, _ = play(known, RoundTrip([X], Wait(1, 1.0)), [error, count], further)
    assert replies == [1, 2]


def test_where_nothing_was_carried_out_no_replica_has_it(known: Map):
    replies, _ = play(known, RoundTrip([X], Wait(1, 1.0)), ["TRYAGAIN later", 2])
    assert replies == ["TRYAGAIN later", 0]


def test_where_replicas_cannot_be_waited_for_that_is_told_though_others_have_confirmed(known: Map):
    step = RoundTrip([X, Y], Wait(1, 1.0))
    replies, _ = play(known, step, [MOVED, 2, "UNBLOCKED force unblock"], [1, 1])
    assert replies == [1, 2, "UNBLOCKED force unblock"]


def test_where_nothing_was_sent_to_the_second_server_nothing_was_published(known: Map):
    refused = Unavailable("refused", maybe_sent=False)
    for answer in ([MOVED], [MOVED, "TRYAGAIN later"]):
        with pytest.raises(Unavailable) as caught:
            play(known, RoundTrip([X, Y][: len(answer)]), answer, refused)
        assert not caught.value.maybe_sent
        known.slots = Slots([(0, SLOTS - 1, A)])
    with pytest.raises(Unavailable) as caught:
        play(known, RoundTrip([X]), [MOVED], Unavailable("no answer in time", maybe_sent=True))
    assert caught.value.maybe_sent


@pytest.mark.parametrize("error", ["MOVED {} ?:2", "ASK {} ?:2"])
def test_what_leads_to_a_server_without_a_name_is_tried_again_later(known: Map, error: str):
    led = error.format(slot_of("x"))
    replies, sent = play(known, RoundTrip([X, Y, X]), [led, 2, MOVED])
    assert [str(each)[:8] for each in replies] == ["TRYAGAIN", "2", "TRYAGAIN"]
    assert len(sent) == 1
    assert ("?", 2) not in known.primaries


def test_where_the_second_server_is_away_some_may_have_been_carried_out(known: Map):
    with pytest.raises(Unavailable) as caught:
        play(known, RoundTrip([X, Y]), [MOVED, 2], Unavailable("refused", maybe_sent=False))
    assert caught.value.maybe_sent


def test_a_question_about_one_server_is_led_nowhere(known: Map):
    replies, sent = play(known, RoundTrip([X], None, B), [ASK])
    assert replies == [ASK]
    assert sent == [(B, ["x"])]
