"""When a client asks for the next token."""

from __future__ import annotations

import jwt
import pytest

from gateway.client.tokens import fresh, renewed_in
from tests.support.tokens import SECRET


@pytest.mark.parametrize(("lasts", "seconds"), [(3600, 3540), (120, 60), (60, 30), (0, 0), (-5, 0)])
def test_it_is_a_minute_before_the_end_or_half_of_what_is_left(lasts: int, seconds: float) -> None:
    token = jwt.encode({"exp": 1_000_000 + lasts}, SECRET)
    assert renewed_in(token, 1_000_000) == seconds


@pytest.mark.parametrize(
    "token",
    ["", "a.b.c", "a", "a.é.c", "a.bnVsbA.c", jwt.encode({}, SECRET), "a.eyJleHAiOiJ4In0.c"],
)
def test_a_token_that_does_not_say_is_not_renewed(token: str) -> None:
    assert renewed_in(token, 0) is None


async def test_a_token_is_given_as_it_is_or_asked_for() -> None:
    async def later() -> str:
        return "b"

    assert [await fresh(each) for each in ("a", lambda: "c", later)] == ["a", "c", "b"]
