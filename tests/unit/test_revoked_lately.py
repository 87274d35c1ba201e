"""For how long, and of how many tokens, it is known without a question that they are revoked."""

from __future__ import annotations

import pytest

from gateway.core.access import Identity
from gateway.web import revoked_lately
from gateway.web.revoked_lately import RevokedLately

STOLEN = Identity("u", frozenset(), None, "stolen", 1.0)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_is_known_of_this_token_alone_and_for_ten_seconds() -> None:
    clock = Clock()
    known = RevokedLately(clock)
    assert not known.has(STOLEN)
    known.note(STOLEN)
    assert known.has(STOLEN._replace(channels=frozenset({"c"}), expires_at=5.0))
    for other in (
        STOLEN._replace(user="v"),
        STOLEN._replace(token_id="new"),
        STOLEN._replace(token_id=None),
        STOLEN._replace(issued_at=2.0),
    ):
        assert not known.has(other)
    clock.now += 9.9
    known.note(STOLEN._replace(user="v"))
    assert known.has(STOLEN)
    clock.now += 0.1
    assert not known.has(STOLEN)
    known.note(STOLEN)
    assert known.has(STOLEN)
    assert not known.has(STOLEN._replace(user="v"))


def test_no_more_are_remembered_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revoked_lately, "_MOST", 3)
    known = RevokedLately(Clock())
    tokens = [STOLEN._replace(user=f"user-{n}") for n in range(4)]
    for each in tokens:
        known.note(each)
    assert [known.has(each) for each in tokens] == [False, False, False, True]
