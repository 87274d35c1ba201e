"""What the receiver says of an attempt that has failed holds no secret."""

from __future__ import annotations

import pytest
from websockets.exceptions import InvalidHeaderValue, InvalidProxy

from gateway.client.connecting import end_of


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InvalidHeaderValue("Authorization", "Bearer SECRET"), "header Authorization"),
        (InvalidProxy("http://user:SECRET@proxy", "fragment is meaningless"), "is meaningless"),
    ],
)
def test_what_is_told_of_an_attempt_has_no_secret(error: Exception, told: str) -> None:
    end = end_of(error)
    assert told in end.told.message
    assert "SECRET" not in f"{end}"
