"""Who is in a channel."""

from __future__ import annotations

from publisher.contract.channels import parse_channel
from publisher.contract.presence import PresenceReading
from publisher.shared import Flows
from publisher.transport.flows import Flow


class PresenceReader(Flows):
    """Reads it in parts."""

    def users(self, channel: str) -> Flow[list[str]]:
        """The users in a channel, each once, in the order of their ids."""
        namespace = parse_channel(channel).namespace
        yield from self._preflight.check_presence(namespace)
        reading = PresenceReading(self._keys, channel)
        more = True
        while more:
            (reply,) = yield from self._read([reading.next_part])
            more = reading.take(reply)
        return reading.users()
