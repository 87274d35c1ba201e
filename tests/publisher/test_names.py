"""Names of users, sessions and channels: what is no plain string, or empty, is refused by every method."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Any

import pytest
import redis

from publisher import EVERYBODY, AsyncPublisher, InvalidInput, Publisher

RESULT: dict[str, Any] = {"stdout": "", "stderr": "", "exit_code": 0, "duration": 1}
NOTICE = {"title": "t", "message": "m"}
CHANNEL = "run-results/s"


class Mixed(str, Enum):  # noqa: UP042 - this is what backends have
    """Written as ``Mixed.ANN``."""

    ANN = "ann"
    CHANNEL = "run-results/ann"


class Plain(StrEnum):
    """Written as its value."""

    ANN = "ann"
    CHANNEL = "run-results/ann"


Call = Callable[[Any, Any], Any]
"""Makes a call of a publisher's with this name."""

CALLS: dict[str, Call] = {
    "user of notify": lambda publisher, name: publisher.notify(name, **NOTICE),
    "session of run_result": lambda publisher, name: publisher.run_result(name, **RESULT),
    "user of grant": lambda publisher, name: publisher.grant(CHANNEL, name),
    "user of revoke": lambda publisher, name: publisher.revoke(CHANNEL, name),
    "user of connections": lambda publisher, name: publisher.connections(name),
    "user of run_result": lambda publisher, name: publisher.run_result("s", **RESULT, user=name),
    "channel of publish": lambda publisher, name: publisher.publish(name, 1),
    "channel of history": lambda publisher, name: publisher.history(name),
    "channel of grant": lambda publisher, name: publisher.grant(name, "u"),
    "channel of revoke": lambda publisher, name: publisher.revoke(name, "u"),
}
NO_NAMES = [None, 456, 1.5, True, b"x", ["u"], "", Mixed.ANN, "\ud800"]


def refusals(name: object) -> dict[str, Call]:
    """The calls that refuse a name: nobody is granted where no user is named."""
    return {what: call for what, call in CALLS.items() if name or what != "user of run_result"}


def said(what: str, error: InvalidInput) -> bool:
    """Whether the error names what is wrong."""
    kind = what.partition(" ")[0]
    return str(error).startswith("invalid channel " if kind == "channel" else f"{kind} must be ")


@pytest.mark.parametrize("name", NO_NAMES, ids=repr)
def test_what_is_no_name_is_refused_by_every_method_and_nothing_is_sent(
    publisher: Publisher, server: redis.Redis, prefix: str, name: object
):
    for what, call in refusals(name).items():
        with pytest.raises(InvalidInput) as told:
            call(publisher, name)
        assert said(what, told.value), (what, str(told.value))
    assert not list(server.scan_iter(f"{prefix}:*"))


@pytest.mark.parametrize("name", NO_NAMES, ids=repr)
async def test_the_asyncio_client_refuses_the_same(
    async_publisher: AsyncPublisher, server: redis.Redis, prefix: str, name: object
):
    for what, call in refusals(name).items():
        with pytest.raises(InvalidInput) as told:
            await call(async_publisher, name)
        assert said(what, told.value), (what, str(told.value))
    assert not list(server.scan_iter(f"{prefix}:*"))


@pytest.mark.parametrize("name", NO_NAMES, ids=repr)
def test_among_many_it_is_refused_in_its_place(publisher: Publisher, name: Any):
    refused, published = publisher.publish_many([(name, 1), (CHANNEL, 2)])
    assert isinstance(refused, InvalidInput)
    assert not isinstance(published, Exception)


def test_a_number_is_told_apart_from_nothing(publisher: Publisher):
    with pytest.raises(InvalidInput, match=r"user must be a string.*this is of type int"):
        publisher.notify(456, **NOTICE)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"session must be a string that is not empty$"):
        publisher.run_result("", **RESULT)
    with pytest.raises(InvalidInput, match=r"user must be a string that is not empty$"):
        publisher.run_result("s", **RESULT, user="")


def test_everybody_is_no_session_and_no_channel(publisher: Publisher):
    for what in ("session of run_result", "channel of publish", "channel of history"):
        with pytest.raises(InvalidInput) as told:
            CALLS[what](publisher, EVERYBODY)
        assert said(what, told.value)


def test_a_member_of_an_enum_that_is_written_as_its_value_is_a_name(publisher: Publisher):
    for what, call in CALLS.items():
        call(publisher, Plain.CHANNEL if what.startswith("channel") else Plain.ANN)
    assert len(publisher.history("notifications/ann")) == 1
    assert len(publisher.history("run-results/ann")) == 2
    with pytest.raises(InvalidInput, match="invalid channel"):
        publisher.publish(Mixed.CHANNEL, 1)
