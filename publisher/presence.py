"""Who is in a channel, apart from the waiting (``retrying.py``)."""

from __future__ import annotations

from itertools import chain
from typing import Final

from publisher.contract.calls import read_present, users_of
from publisher.contract.channels import parse_channel
from publisher.contract.keys import Keys
from publisher.preflight import Preflight
from publisher.retrying import Retries, read
from publisher.transport.flows import Flow

_PAGE: Final = 1_000
"""So many members are asked for at a time: Redis, and this event loop, serve nobody else meanwhile."""


class PresenceReader:
    """Builds the flows."""

    def __init__(self, keys: Keys, preflight: Preflight, retries: Retries) -> None:
        self._keys = keys
        self._preflight = preflight
        self._retries = retries

    def users(self, channel: str) -> Flow[list[str]]:
        """The users in a channel, each once, in the order of their ids."""
        namespace = parse_channel(channel).namespace
        yield from self._preflight.check_presence(namespace)
        # Sorted on the way, each list being longer than all behind it together: so no step takes long.
        found: list[list[str]] = []
        lease, member = "", ""
        while True:
            call = read_present(self._keys, channel, lease, member, _PAGE)
            (reply,) = yield from read([call], self._retries)
            part = sorted(users_of(reply[::2]))
            while found and len(found[-1]) <= len(part):
                part = _joined(found.pop(), part)
            found.append(part)
            if len(reply) < 2 * _PAGE:
                return _joined(*found)
            member, lease = reply[-2].decode(), reply[-1].decode()


def _joined(*sorted_lists: list[str]) -> list[str]:
    """What is in any of them, once. Sorting goes fast over what is sorted."""
    return list(dict.fromkeys(sorted(chain(*sorted_lists))))
