"""Who is in a channel, apart from the waiting (``retrying.py``)."""

from __future__ import annotations

from publisher.contract.calls import present, users_of
from publisher.contract.channels import parse_channel
from publisher.contract.keys import Keys
from publisher.preflight import Preflight
from publisher.retrying import Retries, read
from publisher.transport.flows import Flow


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
        (members,) = yield from read([present(self._keys, channel)], self._retries)
        return sorted(users_of(members))
