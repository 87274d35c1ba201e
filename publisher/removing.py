"""What takes messages out again."""

from __future__ import annotations

from publisher.contract import rights, scripts
from publisher.contract.calls import Call
from publisher.contract.channels import parse_channel
from publisher.records import check_integer
from publisher.shared import Flows
from publisher.transport.flows import Flow


class Removing(Flows):
    """Twice does no more than once."""

    def delete(self, channel: str, identifier: int) -> Flow[bool]:
        """Take one message out of its channel's log; returns whether it was there."""
        parse_channel(channel)
        check_integer("id", identifier, lowest=1)
        log = self._keys.log(channel)
        yield from self._preflight.check_rights_of(rights.to_delete, log)
        call = Call.run(scripts.DELETE, [log, self._keys.removed(channel)], str(identifier))
        return bool((yield from self._write(call)))
