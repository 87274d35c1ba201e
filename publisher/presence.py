"""Who is in a channel, apart from the waiting (``retrying.py``)."""

from __future__ import annotations

from publisher.contract.channels import parse_channel
from publisher.contract.keys import Keys
from publisher.contract.presence import PresenceReading
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
        reading = PresenceReading(self._keys, channel)
        more = True
        while more:
            (reply,) = yield from read([reading.next_part], self._retries)
            more = reading.take(reply)
        return reading.users()
