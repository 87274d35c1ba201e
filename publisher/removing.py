"""What takes messages out again, apart from the waiting (``retrying.py``)."""

from __future__ import annotations

from publisher.contract import rights, scripts
from publisher.contract.calls import Call
from publisher.contract.channels import parse_channel
from publisher.contract.keys import Keys
from publisher.preflight import Preflight
from publisher.publication import Options
from publisher.records import check_integer
from publisher.retrying import Retries, write
from publisher.transport.flows import Flow


class Removing:
    """Builds the flows. Twice does no more than once.

    Args:
        options: which replicas must have what is written.
    """

    def __init__(
        self, keys: Keys, preflight: Preflight, retries: Retries, options: Options
    ) -> None:
        self._keys = keys
        self._preflight = preflight
        self._retries = retries
        self._options = options

    def delete(self, channel: str, identifier: int) -> Flow[bool]:
        """Take one message out of its channel's log; returns whether it was there."""
        parse_channel(channel)
        check_integer("id", identifier, lowest=1)
        log = self._keys.log(channel)
        yield from self._preflight.check_rights_of(rights.to_delete, log)
        call = Call.run(scripts.DELETE, [log, self._keys.removed(channel)], str(identifier))
        options = self._options
        removed = yield from write(
            call, self._retries, options.min_replicas, options.replica_timeout
        )
        return bool(removed)
