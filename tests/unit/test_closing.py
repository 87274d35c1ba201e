"""Close codes, reasons, and the errors before them."""

from __future__ import annotations

import json

import pytest

from gateway.core import closing
from gateway.core.closing import CloseCode, Closing
from gateway.core.protocol import ErrorCode

ALL = {name: value for name, value in vars(closing).items() if isinstance(value, Closing)}


@pytest.mark.parametrize("name", ALL)
def test_a_reason_fits_into_a_control_frame(name: str) -> None:
    assert len(ALL[name].reason.encode()) <= 123


def test_codes_are_those_of_the_protocol() -> None:
    assert {name: int(value.code) for name, value in ALL.items()} == {
        "NORMAL": 1000,
        "TOKEN_MISSING": 1008,
        "TOKEN_INVALID": 1008,
        "TOKEN_EXPIRED": 1008,
        "TOKEN_NOT_YET_VALID": 1008,
        "TOKEN_KEY_UNKNOWN": 1008,
        "TOKEN_REVOKED": 1008,
        "CONNECTION_LIMIT": 1008,
        "REPLACED": 1008,
        "FLOOD": 1008,
        "INTERNAL_ERROR": 1011,
        "SLOW_CONSUMER": 1013,
        "DRAINING": 1001,
        "PONG_TIMEOUT": 3008,
    }


def test_reasons_tell_apart_what_shares_a_code() -> None:
    reasons = [value.reason for value in ALL.values()]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize("name", ALL)
def test_a_client_that_is_to_blame_is_told_why_and_how_to_mend_it(name: str) -> None:
    each = ALL[name]
    assert (each.error is not None) == (each.code == CloseCode.POLICY_VIOLATION)
    if each.error is not None:
        error = json.loads(each.error)
        assert (error["type"], error["code"]) == ("error", each.reason)
        assert error["message"]
        assert error["detail"]


@pytest.mark.parametrize("code", CloseCode)
def test_every_code_may_be_sent_in_a_close_frame(code: CloseCode) -> None:
    # RFC 6455 §7.4.1 and §7.4.2: 1004 to 1006 and 1015 are never sent.
    assert 1000 <= code <= 4999
    assert code not in {1004, 1005, 1006, 1015}


def test_every_token_that_is_shown_and_not_accepted_has_a_reason_of_its_own() -> None:
    assert {code: each.reason for code, each in closing.REJECTED_TOKEN.items()} == {
        code: code.value
        for code in ErrorCode
        if code.startswith("token_") and code is not ErrorCode.TOKEN_MISSING
    }
