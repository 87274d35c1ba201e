"""When the receiver connects again, and when it gives up, as docs/protocol.md has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.client import ConnectionEnded
from gateway.client.reconnecting import LONGEST_SECONDS, End, Reconnecting

PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
LOST = End()


def test_pauses_double_up_to_the_longest_one() -> None:
    trying = Reconnecting(lambda: 1.0, renews=True)
    assert [trying.pause(LOST, 0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, LONGEST_SECONDS]


def test_a_pause_may_be_any_part_of_its_length() -> None:
    trying = Reconnecting(lambda: 0.25, renews=True)
    assert [trying.pause(LOST, 0) for _ in range(3)] == [0.25, 0.5, 1]


def test_pauses_stay_bounded_after_a_long_outage() -> None:
    trying = Reconnecting(lambda: 1.0, renews=True)
    assert {trying.pause(LOST, 0) for _ in range(5_000)} == {1, 2, 4, 8, 16, 30}


@pytest.mark.parametrize(("lasted", "pause"), [(59, 4), (61, 1)])
def test_pauses_begin_anew_after_a_connection_that_has_lasted(lasted: float, pause: float) -> None:
    trying = Reconnecting(lambda: 1.0, renews=True)
    trying.pause(LOST, 0)
    trying.pause(LOST, 0)
    trying.connected(100)
    assert trying.pause(LOST, 100 + lasted) == pause


def test_a_failed_attempt_does_not_count_as_a_connection_that_has_lasted() -> None:
    trying = Reconnecting(lambda: 1.0, renews=True)
    trying.connected(0)
    assert [trying.pause(LOST, now) for now in (100, 200, 300)] == [1, 2, 4]


def test_after_a_drain_it_is_back_within_a_second() -> None:
    trying = Reconnecting(lambda: 1.0, renews=True)
    for _ in range(5):
        trying.pause(LOST, 0)
    assert trying.pause(End(1001, "draining"), 0) == 1


def test_a_server_that_asks_for_time_gets_it() -> None:
    trying = Reconnecting(lambda: 0.5, renews=True)
    assert trying.pause(End(status=503, retry_after=7), 0) == 7.5


def gives_up(*ends: End, renews: bool = True) -> bool:
    """Whether it does after one of these ends."""
    trying = Reconnecting(lambda: 0.0, renews=renews)
    try:
        for end in ends:
            trying.pause(end, 0)
    except ConnectionEnded:
        return True
    return False


PORTAL = End(status=302)
WRONG_CERTIFICATE = End(reason="certificate_not_trusted", for_good=True)
NO_SUCH_PATH = End(reason="not_found", status=404, by_gateway=True)


@pytest.mark.parametrize("end", [PORTAL, WRONG_CERTIFICATE, NO_SUCH_PATH, End(status=404)])
def test_what_no_gateway_answers_at_first_is_a_wrong_address(end: End) -> None:
    assert gives_up(end)


@pytest.mark.parametrize(
    ("end", "hopeless"),
    [(PORTAL, False), (WRONG_CERTIFICATE, False), (End(status=404), False), (NO_SUCH_PATH, True)],
)
def test_later_it_is_something_that_has_come_in_between(end: End, hopeless: bool) -> None:
    trying = Reconnecting(lambda: 0.0, renews=True)
    trying.connected(0)
    trying.pause(LOST, 1)
    try:
        trying.pause(end, 2)
        gave_up = False
    except ConnectionEnded:
        gave_up = True
    assert gave_up is hopeless


def close_codes() -> list[tuple[int, str, bool]]:
    """Each code and reason of the protocol's table, and whether it says no to another try."""
    table = PROTOCOL.partition("## Close codes")[2]
    found = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 4 or not cells[0][:1].isdigit():
            continue
        for code in re.findall(r"\d+", cells[0]):
            for reason in re.findall(r"`(\w+)`", cells[1]) or [""]:
                found.append((int(code), reason, cells[3].startswith("no")))
    return found


def test_the_table_of_close_codes_is_read() -> None:
    assert len(close_codes()) > 15


@pytest.mark.parametrize(("code", "reason", "hopeless"), close_codes())
def test_it_gives_up_where_the_protocol_says_so(code: int, reason: str, hopeless: bool) -> None:
    # Twice: a login that makes new tokens is asked for one more.
    assert gives_up(End(code, reason), End(code, reason)) == hopeless


def test_an_invalid_token_is_replaced_once() -> None:
    invalid = End(1008, "token_invalid")
    assert not gives_up(invalid)
    assert gives_up(invalid, renews=False)
    assert not gives_up(invalid, LOST, invalid)


@pytest.mark.parametrize("reason", ["token_expired", "token_revoked"])
def test_a_token_that_does_not_change_stays_of_no_use(reason: str) -> None:
    assert gives_up(End(1008, reason), renews=False)


@pytest.mark.parametrize(
    ("status", "hopeless"),
    [(400, True), (403, True), (404, True), (426, True)]
    + [(status, False) for status in (408, 429, 500, 502, 503, 504)],
)
def test_a_refusal_in_http_is_final_where_nothing_will_change_it(
    status: int, hopeless: bool
) -> None:
    assert gives_up(End(status=status)) == hopeless


def test_trouble_that_stays_on_this_side_is_told_at_once() -> None:
    with pytest.raises(ConnectionEnded, match="certificate_not_trusted") as caught:
        Reconnecting(lambda: 0.0, renews=True).pause(
            End(reason="certificate_not_trusted", for_good=True), 0
        )
    assert caught.value.reason == "certificate_not_trusted"
