"""Which compression a client and this server agree on (permessage-deflate: RFC 7692 §5 and §7.1)."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final, NamedTuple

from gateway.core import header_lists
from gateway.core.header_lists import Parameter

_NAME: Final = "permessage-deflate"
_LARGEST_WINDOW: Final = 15
_SMALLEST_WINDOW: Final = 9  # zlib makes no raw deflate with a window of 8 bits
_BITS: Final = re.compile("[89]|1[0-5]")  # §7.1.2.1: without leading zeros

_MOST_OFFERS: Final = 16
"""Further ones are not looked at. Clients make one or two."""

_FLAGS: Final = {"server_no_context_takeover", "client_no_context_takeover"}
_SERVER_WINDOW: Final = "server_max_window_bits"
_CLIENT_WINDOW: Final = "client_max_window_bits"


class Deflate(NamedTuple):
    """What was agreed: the window of what this server sends, and the words of the answer."""

    window_bits: int
    answer: str


def negotiate(offers: str) -> Deflate | None:
    """Agree on the first offer of ``Sec-WebSocket-Extensions`` that can be accepted; ``None`` when none can.

    No message rests on another one, in neither direction, whether or not the client has asked for that (§7.1.1): this
    server shares its compressed messages, and keeps no window of 32 KiB for each client that compresses.
    """
    for member in islice(header_lists.members(offers), _MOST_OFFERS):
        offer = header_lists.parameters(member)
        if offer is not None and (agreed := _agree(offer)) is not None:
            return agreed
    return None


def _agree(offer: list[Parameter]) -> Deflate | None:
    """The agreement on one offer; ``None`` when it is of something else, or invalid (§5.1)."""
    name, *parameters = offer
    given = dict(parameters)
    if name != (_NAME, None) or len(given) != len(parameters):
        return None
    if not all(_is_valid(*parameter) for parameter in parameters):
        return None
    answer = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
    asked = given.get(_SERVER_WINDOW)
    if asked is None:
        return Deflate(_LARGEST_WINDOW, answer)
    if int(asked) < _SMALLEST_WINDOW:
        return None
    return Deflate(int(asked), f"{answer}; {_SERVER_WINDOW}={asked}")


def _is_valid(name: str, value: str | None) -> bool:
    if name in _FLAGS:
        return value is None
    if name == _CLIENT_WINDOW and value is None:
        return True
    return name in {_SERVER_WINDOW, _CLIENT_WINDOW} and bool(_BITS.fullmatch(value or ""))
