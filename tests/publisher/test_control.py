"""Commands between nodes, of which some are of the version before."""

from __future__ import annotations

import orjson
import pytest

from publisher.contract.control import (
    CheckPlaces,
    Command,
    Disconnect,
    GrantRevoked,
    PlaceReplaced,
    PlacesChecked,
    TokenRevoked,
    TokensRevoked,
    decode,
    encode,
)
from publisher.contract.grants import EVERYBODY
from publisher.contract.inspection import Happened, Question, Reply, Watch

CHECK = CheckPlaces("u", ("n1", "n2"), ("n1/1", "n2/a"), "n3")


@pytest.mark.parametrize(
    "command",
    [
        GrantRevoked("run-results/1", "u"),
        GrantRevoked("x/1", EVERYBODY),
        GrantRevoked("run-results/1", "u", "ops@example.org"),
        Disconnect("u", 1_640_995_200_000_000),
        Disconnect('u}"', 1_640_995_200_000_000, "bye", "n1/a", "ops"),
        Disconnect("u", 1_640_995_200_000_000, again=True),
        TokenRevoked("0123"),
        TokensRevoked("u", 1_640_995_200.5, "ops"),
        CHECK,
        PlacesChecked("u", "n1"),
        PlaceReplaced('u"', "n1/a"),
        Question("1a", "n3", ("n1", "n2"), "channel", "run-results/1"),
        Reply("1a", "n1", {"count": 1}),
        Question("1a", "n3", ("n1",), "channels", "", ("run-results",)),
        Watch("1a", "n3", "user", 'u"', 15.0),
        Watch("1a", "n3", "user", "u", 15.0, ("a", "b")),
        Happened("1a", "n1", [{"kind": "lost"}], 2),
    ],
)
def test_a_command_is_read_as_it_was_written(command: Command) -> None:
    assert decode(encode(command)) == command


@pytest.mark.parametrize(
    "change",
    [{"about": "channels"}, {"about": "all"}, {"seconds": "15"}, {"asker": None}, {"name": 1}],
)
def test_what_nobody_can_watch_is_left(change: dict[str, object]) -> None:
    message = orjson.loads(encode(Watch("1a", "n3", "user", "u", 15.0)))
    assert decode(orjson.dumps(message | change)) is None


def test_an_earlier_node_reads_whose_places_which_nodes_are_to_look_through() -> None:
    message = orjson.loads(encode(CHECK))
    assert (message["type"], message["user"]) == ("reconcile_places", "u")
    assert message["nodes"] == ["n1", "n2"]


def test_what_an_earlier_node_asks_is_read() -> None:
    asked = b'{"type":"reconcile_places","user":"u","nodes":["n1"]}'
    assert decode(asked) == CheckPlaces("u", ("n1",))


def test_a_command_of_a_later_version_is_left() -> None:
    assert decode(b'{"type":"of tomorrow"}') is None


@pytest.mark.parametrize("payload", [b"", b"x", b"[]", b"{}", b'{"type":1}'])
def test_what_is_no_command_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError):
        decode(payload)
