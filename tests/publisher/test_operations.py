"""The flows, driven by hand: no Redis, no waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from redis.exceptions import NoPermissionError, NoScriptError, OutOfMemoryError, ResponseError

from publisher.contract.calls import Argument, Call
from publisher.contract.channels import DEFAULT_NAMESPACES, Namespace, Retention
from publisher.contract.keys import Keys
from publisher.contract.scripts import PUBLISH, SETTLE
from publisher.errors import (
    InvalidChannel,
    InvalidData,
    InvalidInput,
    MessageTooLarge,
    PublisherError,
    Rejected,
    Unavailable,
    UnknownNamespace,
)
from publisher.groups import MESSAGES
from publisher.intake import BATCH
from publisher.operations import Operations
from publisher.publication import Options, Publication
from publisher.publishing import BYTES_SEARCHED, ENTRIES_SEARCHED
from publisher.records import Outgoing, Published
from publisher.retrying import Retries
from publisher.transport.flows import Flow, Owners, Pause, RoundTrip
from tests.publisher.informed import PRIMARY, informed

REFUSED = Unavailable("refused", maybe_sent=False)
CUT = Unavailable("cut", maybe_sent=True)
NOT_THERE: list[Any] = [[b"0"]]
TIME: list[Any] = [b"1640995200", b"500000"]

Answer = list[Any] | Unavailable | Callable[[Sequence[Call]], list[Any]]


class Run:
    """Plays Redis's part in a flow, and keeps what was asked and how long it paused."""

    def __init__(self, flow: Flow[Any], *answers: Answer) -> None:
        self.trips: list[Sequence[Call]] = []
        self.pauses: list[float] = []
        self.result: Any = None
        self.error: PublisherError | None = None
        queue = list(answers)
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    step = flow.send([])
                    continue
                if isinstance(step, Owners):
                    step = flow.send([PRIMARY for _ in step.keys])
                    continue
                assert isinstance(step, RoundTrip)
                self.trips.append(step.calls)
                answer = queue.pop(0)
                if isinstance(answer, Unavailable):
                    step = flow.throw(answer)
                else:
                    try:
                        replies = answer if isinstance(answer, list) else answer(step.calls)
                    except Unavailable as error:
                        step = flow.throw(error)
                    else:
                        step = flow.send(replies)
        except StopIteration as done:
            self.result = done.value
        except PublisherError as error:
            self.error = error
        assert not queue, "the flow ended early"


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def operations(now: list[float]) -> Operations:
    """Operations that know the default namespaces and those without a log called ``ticker``."""
    return operations_at(lambda: now[0])


def operations_at(clock: Callable[[], float], **options: Any) -> Operations:
    keys, retries = Keys("p"), Retries(3, random=lambda: 1.0)
    known = DEFAULT_NAMESPACES | {"ticker": Namespace("ticker", retention=None)}
    return Operations(
        keys,
        clock=clock,
        wall_clock=lambda: 1_640_995_200_000_000,
        retries=retries,
        preflight=informed(keys, clock, retries, known),
        options=Options(**({"max_message_bytes": 100} | options)),
    )


def keys_of(call: Call) -> tuple[Argument, ...]:
    return call.arguments[1 : 1 + int(call.arguments[0])]


def arguments_of(call: Call) -> tuple[Argument, ...]:
    return call.arguments[1 + int(call.arguments[0]) :]


def limits_of(call: Call) -> tuple[str, ...]:
    """Those of the first run of messages."""
    return tuple(arguments_of(call)[2].split(" "))


def nonce(call: Call) -> str:
    """That of the first message."""
    argument = arguments_of(call)[4]
    assert isinstance(argument, str)
    return argument


def body(call: Call) -> Argument:
    """That of the first message."""
    return arguments_of(call)[5]


def messages_of(calls: Sequence[Call]) -> list[int]:
    """How many messages each call has in its only run."""
    return [int(arguments_of(each)[0]) for each in calls]


def accept(calls: Sequence[Call]) -> list[Any]:
    return [b"\n".join([b"17:0"] * count) for count in messages_of(calls)]


def result_seconds(call: Call) -> object:
    return limits_of(call)[4]


def test_a_publish_is_one_round_trip(operations: Operations):
    run = Run(operations.publish(Outgoing("run-results/s", {"a": 1})), [b"17:0"])
    assert run.result == Published(17, "run-results/s", duplicate=False)
    (call,) = run.trips[0]
    assert keys_of(call) == (
        f"p:result:{{run-results/s}}:{nonce(call)}",
        "p:log:{run-results/s}",
        "p:last:{run-results/s}",
    )
    run = ("1", "", "200 86400 86400 2592000 86400")
    message = ("p:live:{run-results/s}", nonce(call), b'{"a":1}')
    assert arguments_of(call) == (*run, *message)
    # Numbers would be turned into text for each message anew.
    assert {type(each) for each in call.cached()} == {str, bytes}


def test_after_a_lost_reply_it_is_first_asked_what_became_of_the_message(operations: Operations):
    run = Run(operations.publish(Outgoing("run-results/s", 1)), CUT, [[b"17"]])
    assert run.result == Published(17, "run-results/s", duplicate=False)
    (first,), (question,) = run.trips
    assert question.script is SETTLE
    assert question.arguments[1:5] == (
        "p:log:{run-results/s}",
        "p:last:{run-results/s}",
        "p:removed:{run-results/s}",
        f"p:result:{{run-results/s}}:{nonce(first)}",
    )
    assert question.arguments[7:] == (ENTRIES_SEARCHED + 1, BYTES_SEARCHED + 1, nonce(first))


def test_what_was_certainly_not_published_is_published_under_a_new_nonce(operations: Operations):
    run = Run(operations.publish(Outgoing("run-results/s", 1)), CUT, NOT_THERE, [b"17:0"])
    assert run.result == Published(17, "run-results/s", duplicate=False)
    (first,), _, (second,) = run.trips
    assert nonce(first) != nonce(second)


def test_it_was_then_certainly_not_sent_if_no_further_try_leaves(operations: Operations):
    run = Run(operations.publish(Outgoing("run-results/s", 1)), CUT, NOT_THERE, *[REFUSED] * 3)
    assert isinstance(run.error, Unavailable)
    assert not run.error.maybe_sent


def test_a_lost_answer_to_the_question_leaves_the_doubt(operations: Operations):
    run = Run(operations.publish(Outgoing("run-results/s", 1)), CUT, CUT, REFUSED, CUT)
    assert isinstance(run.error, Unavailable)
    assert run.error.maybe_sent
    assert [each.script for (each,) in run.trips] == [PUBLISH, SETTLE, SETTLE, SETTLE]


def test_a_retry_after_a_refused_connection_asks_nothing(operations: Operations):
    run = Run(operations.publish(Outgoing("run-results/s", 1)), REFUSED, [b"17:0"])
    first, second = (trip[0] for trip in run.trips)
    assert first == second


def test_a_key_has_a_result_of_its_own_and_its_nonce_tells_the_calls_apart(operations: Operations):
    message = Outgoing("run-results/s", 1, idempotency_key="order 7")
    first, second = (Run(operations.publish(message), [b"17:1"]).trips[0][0] for _ in range(2))
    assert keys_of(first)[3] == keys_of(second)[3]
    # A note of a retry stands there; of a message with a key none asks.
    assert keys_of(first)[0] != keys_of(second)[0]
    assert nonce(first) != nonce(second)
    assert nonce(first).split(".")[0] == nonce(second).split(".")[0]
    assert ":" not in nonce(first)
    assert result_seconds(first) == "86400"


def test_a_call_with_a_key_is_simply_repeated(operations: Operations):
    message = Outgoing("run-results/s", 1, idempotency_key="order 7")
    run = Run(operations.publish(message), CUT, [b"17:0"])
    first, second = (trip[0] for trip in run.trips)
    assert first == second
    assert run.result == Published(17, "run-results/s")


def test_retries_end_and_the_error_tells_of_every_try(operations: Operations):
    run = Run(operations.publish(Outgoing("run-results/s", 1)), REFUSED, CUT, REFUSED, REFUSED)
    assert isinstance(run.error, Unavailable)
    assert run.error.maybe_sent
    assert run.error.reason == "refused"


def test_pauses_double_from_the_first(operations: Operations):
    run = Run(operations.publish(Outgoing("run-results/s", 1)), *[REFUSED] * 4)
    assert run.pauses == [0.05, 0.1, 0.2]


def test_pauses_are_spread_and_bounded():
    assert Retries(9, random=lambda: 0.0).pause(1).seconds == 0.025
    assert Retries(9, random=lambda: 1.0).pause(10**6).seconds == 2.0


def test_an_unlogged_message_is_published_plainly_with_id_0(operations: Operations):
    run = Run(operations.publish(Outgoing("ticker/x", 1)), [0])
    assert run.result == Published(0, "ticker/x")
    command, live, payload = run.trips[0][0].cached()
    assert (command, live) == ("PUBLISH", "p:live:{ticker/x}")
    assert isinstance(payload, bytes)
    assert payload.startswith(b"1640995200000000::")


def test_an_unlogged_message_is_not_sent_twice_after_a_lost_reply(operations: Operations):
    run = Run(operations.publish(Outgoing("ticker/x", 1)), CUT)
    assert isinstance(run.error, Unavailable)
    assert run.error.maybe_sent


def test_an_unlogged_message_is_tried_again_when_nothing_had_left(operations: Operations):
    assert Run(operations.publish(Outgoing("ticker/x", 1)), REFUSED, [0]).result.id == 0


def test_in_a_batch_only_the_unlogged_is_given_up_after_a_lost_reply(operations: Operations):
    messages = [Outgoing("ticker/x", 1), Outgoing("run-results/s", 2)]
    run = Run(operations.publish_many(messages), CUT, NOT_THERE, [b"17:0"])
    assert isinstance(run.result[0], Unavailable)
    assert run.result[0].maybe_sent
    assert run.result[1] == Published(17, "run-results/s")


def test_each_of_many_has_its_outcome_in_order(operations: Operations):
    messages = [
        Outgoing("run-results/s", 1),
        Outgoing("nonsense", 2),
        Outgoing("run-results/s", "x" * 100),
        Outgoing("run-results/s", object()),
        Outgoing("notifications/u", 3),
    ]
    run = Run(operations.publish_many(messages), [b"17:0\n18:0"])
    assert [type(each) for each in run.result] == [
        Published,
        InvalidChannel,
        MessageTooLarge,
        InvalidData,
        Published,
    ]
    assert [each.id for each in (run.result[0], run.result[-1])] == [17, 18]


def test_nothing_valid_means_no_round_trip(operations: Operations):
    assert Run(operations.publish_many([Outgoing("nonsense", 1)])).trips == []
    assert Run(operations.publish_many([])).result == []


def test_many_go_in_batches_and_the_first_that_fails_for_good_ends_it(operations: Operations):
    messages = [Outgoing("run-results/s", n) for n in range(2 * BATCH + 1)]
    run = Run(operations.publish_many(messages), accept, accept, accept)
    assert [sum(messages_of(calls)) for calls in run.trips] == [BATCH, BATCH, 1]

    run = Run(operations.publish_many(messages), accept, CUT, CUT, CUT, CUT)
    outcomes = run.result
    assert all(isinstance(each, Published) for each in outcomes[:BATCH])
    assert all(each.maybe_sent for each in outcomes[BATCH : 2 * BATCH])
    assert isinstance(outcomes[-1], Unavailable)
    assert not outcomes[-1].maybe_sent


def test_an_error_that_passes_is_tried_again(operations: Operations):
    full = OutOfMemoryError("command not allowed when used memory > 'maxmemory'. script: f1, on @x")
    run = Run(operations.publish(Outgoing("run-results/s", 1)), [full], [b"17:0"])
    assert run.result.id == 17
    assert run.trips[0] == run.trips[1]


def test_messages_whose_script_was_forgotten_amid_a_batch_are_sent_again(operations: Operations):
    messages = [Outgoing("run-results/s", n) for n in range(3 * MESSAGES)]
    unknown = NoScriptError("No matching script.")
    run = Run(
        operations.publish_many(messages),
        lambda calls: [*accept(calls[:1]), unknown, unknown],
        accept,
    )
    assert [each.id for each in run.result] == [17] * 3 * MESSAGES
    assert run.trips[1] == run.trips[0][1:]


def test_of_messages_that_share_a_call_each_is_done_by_itself(operations: Operations):
    done: list[Publication] = []
    first, second = (operations.accept(Outgoing("run-results/s", n)) for n in range(2))
    flow = operations.together([first, second], done.append)
    assert isinstance(next(flow), RoundTrip)
    assert isinstance(flow.send([b"-OOM command not allowed\n17:0"]), Pause)
    assert done == [second]
    assert second.answer() == Published(17, "run-results/s")
    flow.send([])
    with pytest.raises(StopIteration):
        flow.send([b"18:0"])
    assert done == [second, first]


def test_an_error_of_one_message_after_its_write_says_so(operations: Operations):
    messages = [Outgoing("run-results/s", n) for n in range(2)]
    after = b"-ERR no script: the message is in the log"
    run = Run(operations.publish_many(messages), [b"17:0\n" + after])
    assert isinstance(run.result[1], Rejected)
    assert run.result[1].maybe_sent


def test_an_error_that_does_not_pass_is_raised_at_once(operations: Operations):
    run = Run(operations.publish(Outgoing("run-results/s", 1)), [NoPermissionError("no")])
    assert isinstance(run.error, Rejected)
    assert not run.error.retryable
    assert not run.error.maybe_sent


def test_an_error_inside_a_script_may_have_come_after_its_write(operations: Operations):
    broken = ResponseError("x script: f1, on @user_script:35.")
    run = Run(operations.publish(Outgoing("run-results/s", 1)), [broken])
    assert isinstance(run.error, Rejected)
    assert run.error.maybe_sent


def test_an_override_replaces_the_retention(operations: Operations):
    message = Outgoing("run-results/s", 1, retention=Retention(5, 60))
    (call,) = Run(operations.publish(message), [b"17:0"]).trips[0]
    assert keys_of(call)[3] == "p:retention:{run-results/s}"
    # The log is kept for the namespace's time: others publish there with it.
    assert limits_of(call) == ("5", "60", "86400", "2592000", "86400")


@pytest.mark.parametrize(("own_days", "kept_days"), [(1, 180), (400, 800)])
def test_positions_are_kept_as_long_as_the_longer_retention_asks(
    operations: Operations, own_days: int, kept_days: int
):
    day = 86_400
    orders = announced(Namespace("orders", retention=Retention(7, 90 * day)))
    message = Outgoing("orders/1", 1, retention=Retention(5, own_days * day))
    run = Run(operations.publish(message), [orders, TIME], [b"17:0"])
    longest = max(own_days, 90) * day
    (call,) = run.trips[-1]
    assert limits_of(call)[:4] == ("5", *map(str, (own_days * day, longest, kept_days * day)))


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Outgoing("ticker/x", 1, idempotency_key="k"), InvalidData),
        (Outgoing("ticker/x", 1, retention=Retention(1, 1)), InvalidData),
        (Outgoing("run-results/s", 1, idempotency_key=""), InvalidData),
        (Outgoing("run-results/s", 1, idempotency_key="\ud800"), InvalidData),
        (Outgoing("run-results/s", "\ud800"), InvalidData),
        (Outgoing("run-results/s", object()), InvalidData),
        (Outgoing("run-results/s", 1 << 70), InvalidData),
    ],
)
def test_a_message_that_cannot_be_is_refused_before_any_round_trip(
    operations: Operations, message: Outgoing, error: type[InvalidInput]
):
    run = Run(operations.publish(message))
    assert type(run.error) is error
    assert run.trips == []


def test_a_message_at_the_limit_is_accepted(operations: Operations):
    assert Run(operations.publish(Outgoing("run-results/s", "x" * 98)), [b"17:0"]).result.id == 17
    run = Run(operations.publish(Outgoing("run-results/s", "x" * 99)))
    assert isinstance(run.error, MessageTooLarge)
    assert (run.error.size, run.error.limit) == (101, 100)


def announced(*namespaces: Namespace) -> list[Any]:
    return [
        item for each in namespaces for item in (each.name.encode(), orjson.dumps(each.to_dict()))
    ]


def test_namespaces_are_learnt_once_a_minute(operations: Operations, now: list[float]):
    now[0] = 59.0
    assert len(Run(operations.publish(Outgoing("run-results/s", 1)), [b"17:0"]).trips) == 1
    now[0] = 60.0
    orders = announced(Namespace("orders", retention=Retention(7, 8)))
    run = Run(operations.publish(Outgoing("orders/1", 1)), [orders, TIME], [b"17:0"])
    assert run.trips[0][0].cached() == ("HGETALL", "p:namespaces")
    assert limits_of(run.trips[1][0])[:2] == ("7", "8")


def test_rules_that_a_later_gateway_adds_do_not_hide_the_namespace(operations: Operations):
    limits = {"max_messages": 7, "max_age_seconds": 8, "max_bytes": 9}
    rules = {
        "owner": "anyone",
        "retention": limits,
        "presence": {"announce": True, "places": 5},
        "later": 1,
        "announced": 1,
    }
    announcement = [b"orders", orjson.dumps(rules)]
    run = Run(operations.publish(Outgoing("orders/1", 1)), [announcement, TIME], [b"17:0"])
    assert limits_of(run.trips[1][0])[:2] == ("7", "8")


def test_a_namespace_not_heard_of_is_looked_up_at_once(operations: Operations):
    assert Run(
        operations.publish(Outgoing("orders/1", 1)),
        [announced(Namespace("orders")), TIME],
        [b"1:0"],
    ).result

    run = Run(operations.publish(Outgoing("missing/1", 1)), [announced(Namespace("orders")), TIME])
    assert isinstance(run.error, UnknownNamespace)
    assert run.error.known == ("orders",)


def test_without_an_announcement_the_defaults_stay(operations: Operations, now: list[float]):
    now[0] = 60.0
    assert (
        Run(operations.publish(Outgoing("run-results/s", 1)), [[], TIME], [b"17:0"]).result.id == 17
    )


def test_the_announcement_may_come_as_a_map(operations: Operations):
    assert Run(
        operations.publish(Outgoing("orders/1", 1)), [{b"orders": b"{}"}, TIME], [b"1:0"]
    ).result


def test_what_a_newer_gateway_adds_to_a_namespace_is_ignored(operations: Operations):
    reply = [
        b"odd",
        b'{"owner":"robots"}',
        b"orders",
        b'{"owner":"grant","colour":"blue"}',
        b"bad",
        b"[",
    ]
    assert Run(operations.publish(Outgoing("orders/1", 1)), [reply, TIME], [b"1:0"]).result
    assert operations._preflight.namespaces == {"orders": Namespace("orders")}


def test_a_publish_that_fails_while_learning_namespaces_was_certainly_not_sent(
    operations: Operations, now: list[float]
):
    now[0] = 60.0
    run = Run(
        operations.publish_many([Outgoing("run-results/s", 1), Outgoing("no", 1)]), *[CUT] * 4
    )
    assert [type(each) for each in run.result] == [Unavailable, InvalidChannel]
    assert not run.result[0].maybe_sent


def test_a_notification_holds_only_what_was_given(operations: Operations):
    assert operations.notification("u", title="t", message="m").data == {
        "title": "t",
        "message": "m",
    }
    message = operations.notification("u", title="t", message="", action="a", request_id="r")
    assert message.data == {"title": "t", "message": "", "action": "a", "requestId": "r"}


@pytest.mark.parametrize(
    "wrong", [{"title": None}, {"message": 5}, {"action": 5}, {"request_id": b"x"}]
)
def test_a_notification_is_made_of_strings(operations: Operations, wrong: dict[str, Any]):
    with pytest.raises(InvalidData, match="must be a string"):
        operations.notification("u", **({"title": "t", "message": "m"} | wrong))


def result(operations: Operations, **changes: Any) -> Flow[Published]:
    values = {"stdout": "o", "stderr": "e", "exit_code": 0, "duration": 5} | changes
    message = yield from operations.run_result("s", **values)
    return (yield from operations.publish(message))


def test_a_run_result_has_the_shape_of_the_specification(operations: Operations):
    run = Run(result(operations), [b"17:0"])
    assert body(run.trips[0][0]) == b'{"stdout":"o","stderr":"e","exitCode":0,"duration":5}'


def test_a_run_result_grants_the_session_before_it_is_sent(operations: Operations):
    run = Run(result(operations, user="u"), [b"OK"], [b"17:0"])
    assert run.trips[0][0].arguments[:4] == ("1", "p:grant:{run-results/s}", "u", 30 * 86_400_000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"stdout": b"x"},
        {"duration": 1.5},
        {"duration": -1},
        {"exit_code": True},
        {"stdout": "x" * 99},
    ],
)
def test_nobody_is_granted_a_session_for_a_result_that_cannot_be_sent(
    operations: Operations, wrong: dict[str, Any]
):
    run = Run(result(operations, user="u", **wrong))
    assert isinstance(run.error, InvalidInput)
    assert run.trips == []


@pytest.mark.parametrize("ttl", [0, -1, 1.5, True, "60", 10**10])
def test_a_grant_lasts_whole_seconds_or_for_ever(operations: Operations, ttl: Any):
    assert isinstance(Run(operations.grant("run-results/s", "u", ttl)).error, InvalidData)
    [call] = Run(operations.grant("run-results/s", "u", None), [b"OK"]).trips[0]
    assert call.arguments[3] == ""


@pytest.mark.parametrize("user", ["", None, 5, "\ud800"])
def test_a_user_is_a_string_that_is_not_empty(operations: Operations, user: Any):
    flows = [
        operations.grant("run-results/s", user),
        operations.revoke("run-results/s", user),
        operations.connections(user),
    ]
    assert all(isinstance(Run(flow).error, InvalidData) for flow in flows)


def test_a_grant_is_repeated_after_a_lost_reply(operations: Operations):
    run = Run(operations.grant("run-results/s", "u"), CUT, [b"OK"])
    assert run.error is None


def test_a_grant_that_fails_tells_of_every_try(operations: Operations):
    run = Run(operations.grant("run-results/s", "u"), CUT, REFUSED, REFUSED, REFUSED)
    assert isinstance(run.error, Unavailable)
    assert run.error.maybe_sent


def test_reading_has_no_effect_that_could_be_in_doubt(operations: Operations):
    run = Run(operations.connections("u"), *[CUT] * 4)
    assert isinstance(run.error, Unavailable)
    assert not run.error.maybe_sent


def test_a_read_that_is_rejected_is_not_repeated(operations: Operations):
    assert isinstance(
        Run(operations.connections("u"), [ResponseError("WRONGTYPE x")]).error, Rejected
    )


def page(*ids: int, newest: int = 0) -> list[Any]:
    entries = (b"%d:0:n:%d" % (each, each) for each in ids)
    return [[b"0", b"%d" % (newest or ids[-1]), *entries]]


def test_history_reads_in_pages_each_from_where_the_last_ended(operations: Operations):
    first = range(1, BATCH + 1)
    run = Run(operations.history("run-results/s"), page(*first, newest=BATCH + 1), page(BATCH + 1))
    assert [entry.id for entry in run.result] == [*first, BATCH + 1]
    assert [arguments_of(calls[0])[1:3] for calls in run.trips] == [
        ("0", str(BATCH)),
        (str(BATCH), str(BATCH)),
    ]


def test_history_asks_for_no_more_than_the_limit(operations: Operations):
    run = Run(operations.history("run-results/s", 5, 2), page(6, 7))
    assert [entry.data for entry in run.result] == [6, 7]
    assert arguments_of(run.trips[0][0])[1:3] == ("5", "2")


@pytest.mark.parametrize(
    ("since", "limit"), [(-1, None), (2**53, None), ("1", None), (0, 0), (0, True)]
)
def test_history_takes_an_id_and_a_positive_limit(operations: Operations, since: Any, limit: Any):
    assert isinstance(Run(operations.history("run-results/s", since, limit)).error, InvalidData)


def test_a_question_is_about_what_is_newer_than_the_first_try(
    operations: Operations, now: list[float]
):
    now[0] = 100.0

    def lost(_calls: Sequence[Call]) -> list[Any]:
        now[0] += 2.0
        raise CUT

    orders = announced(*DEFAULT_NAMESPACES.values())
    run = Run(operations.publish(Outgoing("run-results/s", 1)), [orders, TIME], lost, [[b"17"]])
    assert run.trips[2][0].arguments[5:7] == (1_640_995_200_500_000, 2_000_000)


def test_one_question_is_about_all_messages_of_a_channel(operations: Operations):
    messages = [Outgoing(f"run-results/{n % 2}", n) for n in range(5)]
    answers: list[Answer] = [CUT, [[b"17", b"", b"0"], [b"18", b"19"]], [b"20:0"]]
    run = Run(operations.publish_many(messages), *answers)
    assert [len(calls) for calls in run.trips] == [1, 2, 1]
    lost = run.result[2]
    assert isinstance(lost, Rejected)
    assert lost.maybe_sent
    assert not lost.retryable
    assert [each.id for each in run.result if each is not lost] == [17, 18, 19, 20]


def test_a_question_that_passes_is_asked_again_and_nothing_is_published_meanwhile(
    operations: Operations,
):
    messages = [Outgoing("run-results/s", 1), Outgoing("notifications/u", 2)]
    full = OutOfMemoryError("full")
    run = Run(operations.publish_many(messages), CUT, [[b"17"], full], [[b"0"]], [b"18:0"])
    assert [each.id for each in run.result] == [17, 18]
    assert [len(calls) for calls in run.trips] == [1, 2, 1, 1]


def test_a_question_that_is_refused_for_good_leaves_the_doubt(operations: Operations):
    run = Run(operations.publish(Outgoing("run-results/s", 1)), CUT, [NoPermissionError("no")])
    assert isinstance(run.error, Rejected)
    assert run.error.maybe_sent


def test_batches_are_retried_each_on_its_own_account(operations: Operations):
    messages = [Outgoing(f"run-results/{n}", n) for n in range(3 * BATCH)]
    twice_refused = [REFUSED, REFUSED, accept]
    run = Run(operations.publish_many(messages), *twice_refused * 3)
    assert all(isinstance(each, Published) for each in run.result)
    assert run.pauses == [0.05, 0.1] * 3


def test_a_result_whose_grant_failed_was_certainly_not_sent(operations: Operations):
    run = Run(result(operations, user="u"), *[CUT] * 4)
    assert isinstance(run.error, Unavailable)
    assert not run.error.maybe_sent


def test_a_revoke_of_which_a_part_was_done_may_have_taken_effect(operations: Operations):
    run = Run(operations.revoke("run-results/s", "u"), [1, NoPermissionError("no channel")])
    assert isinstance(run.error, Rejected)
    assert run.error.maybe_sent
    run = Run(operations.revoke("run-results/s", "u"), [*map(NoPermissionError, "ab")])
    assert isinstance(run.error, Rejected)
    assert not run.error.maybe_sent


def test_in_a_cluster_a_grant_is_gone_before_anybody_is_told():
    keys, retries = Keys("p", sharded=True), Retries(3, random=lambda: 1.0)
    preflight = informed(keys, lambda: 0.0, retries, DEFAULT_NAMESPACES)
    operations = Operations(
        keys,
        clock=lambda: 0.0,
        wall_clock=lambda: 1_640_995_200_000_000,
        retries=retries,
        preflight=preflight,
        options=Options(),
    )
    run = Run(operations.revoke("run-results/s", "u"), [1], CUT, [0, 1])
    assert run.result is True
    commands = [[call.arguments[0] for call in trip] for trip in run.trips]
    assert commands == [["ZREM"], ["PUBLISH", "SPUBLISH"], ["PUBLISH", "SPUBLISH"]]
    run = Run(operations.revoke("run-results/s", "u"), [1], *[REFUSED] * 4)
    assert run.error is not None
    assert run.error.maybe_sent


def test_in_a_cluster_who_cannot_ask_for_the_namespaces_is_told_where_they_are():
    keys = Keys("p", sharded=True)
    operations = Operations(
        keys,
        clock=lambda: 0.0,
        wall_clock=lambda: 1_640_995_200_000_000,
        retries=Retries(0, random=lambda: 1.0),
        options=Options(),
    )
    silent = Unavailable("no answer in time.", maybe_sent=True, server="a:1")
    run = Run(operations.publish(Outgoing("run-results/s", 1)), silent)
    assert str(run.error) == (
        "Redis is unavailable (a:1: no answer in time; the namespaces, which this publisher has to ask for, are kept "
        "there (p:namespaces): start that server again, or let a replica take over); the call had no effect"
    )


def with_time(now: list[float], retries: Retries) -> Operations:
    keys = Keys("p")
    preflight = informed(keys, lambda: now[0], retries, DEFAULT_NAMESPACES)
    return Operations(
        keys,
        clock=lambda: now[0],
        wall_clock=lambda: 1_640_995_200_000_000,
        retries=retries,
        preflight=preflight,
        options=Options(),
    )


def refused_after(now: list[float], seconds: float) -> Answer:
    """Each try takes so long, and fails."""

    def answer(_calls: Sequence[Call]) -> list[Any]:
        now[0] += seconds
        raise REFUSED

    return answer


@pytest.mark.parametrize(("limit", "tries"), [(1, 3), (0, 1)])
def test_where_another_server_may_take_over_a_call_is_tried_for_a_time(
    now: list[float], limit: int, tries: int
):
    retries = Retries(limit, lambda: 1.0, give_up_after=15.0, clock=lambda: now[0])
    operations = with_time(now, retries)
    for flow in (
        operations.publish(Outgoing("run-results/s", 1)),
        operations.grant("run-results/s", "u"),
    ):
        run = Run(flow, *[refused_after(now, 7.0)] * tries)
        assert isinstance(run.error, Unavailable)
        assert len(run.trips) == tries
        assert run.pauses == [0.05, 0.1][: tries - 1]


def test_the_time_begins_anew_with_what_succeeds(now: list[float]):
    retries = Retries(1, lambda: 1.0, give_up_after=15.0, clock=lambda: now[0])
    many = [Outgoing("run-results/s", number) for number in range(BATCH + 1)]
    later = refused_after(now, 10.0)
    run = Run(with_time(now, retries).publish_many(many), later, accept, later, accept)
    assert [type(each) for each in run.result] == [Published] * (BATCH + 1)


def test_nobody_waits_long_to_notice_another_server():
    assert Retries(9, lambda: 1.0, give_up_after=15.0).pause(10**6).seconds == 0.5
