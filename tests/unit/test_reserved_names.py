"""A data message's type is its namespace, so no namespace may be called like another message."""

from __future__ import annotations

from typing import Any, get_args

import orjson
import pytest
from pydantic import ValidationError

from gateway.core import protocol
from gateway.core.protocol import RESERVED, BadRequest, ErrorCode, Request
from gateway.settings import Settings

SAID = [
    protocol.connected("u"),
    protocol.subscribed("a/b"),
    protocol.unsubscribed("a/b"),
    protocol.heartbeat(1),
    protocol.presence("a/b", ["u"], 1),
    *(protocol.change(kind, "a/b", ["u"]) for kind in protocol.CHANGES),
    protocol.error(ErrorCode.FLOOD, "flood"),
    protocol.messages_lost("a/b"),
]
TO_COME = {"presence", "joined", "left", "granted", "token_expiring"}


def test_whatever_the_server_says_is_reserved() -> None:
    assert {orjson.loads(message)["type"] for message in SAID} <= RESERVED


def test_whatever_a_client_may_say_is_reserved() -> None:
    known = set()
    for name in RESERVED:
        try:
            request = protocol.parse(
                orjson.dumps({"type": name, "channel": "a/b", "id": 1, "token": "t"})
            )
        except BadRequest as error:
            assert error.code is ErrorCode.UNKNOWN_TYPE
        else:
            known.add(type(request))
    assert known == set(get_args(Request))


def test_what_later_versions_will_say_is_reserved_now() -> None:
    assert TO_COME <= RESERVED


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_namespace_of_a_reserved_name_is_refused_with_the_reason(name: str) -> None:
    namespaces: dict[str, Any] = {"lessons": {}, name: {"owner": "anyone"}}
    with pytest.raises(ValidationError, match=f"'{name}': messages of the protocol have this name"):
        Settings(namespaces=namespaces)
    assert Settings(namespaces={f"{name}s": {}, f"my-{name}": {}})
