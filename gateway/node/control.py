"""Cluster-wide commands, as this node carries them out, and the answers to its own."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.node import audit
from gateway.node.recheck import Recheck
from gateway.node.revocations import Revocations
from publisher.contract.control import (
    CheckPlaces,
    ClientAnswer,
    ClientGone,
    ClientRequest,
    Command,
    Disconnect,
    DrainNode,
    GrantRevoked,
    OfStreams,
    PlaceReplaced,
    PlacesChecked,
    TokenRevoked,
    TokensRevoked,
    decode,
)
from publisher.contract.inspection import Happened, Inspection, Question, Reply, Watch

log = logging.getLogger(__name__)


class Control:
    """Carries out the commands that arrive on the control channel.

    Args:
        check: told of a user at the limit, whose places some nodes are to look through.
        checked: told of an answer to that.
        drain: told of a node that is to end, perhaps this one.
        streams: told of what clients without a WebSocket say over other nodes, and of answers to that.
        inspect: told of what operators ask, and of what other nodes answer.
    """

    def __init__(
        self,
        recheck: Recheck,
        check: Callable[[CheckPlaces], None],
        checked: Callable[[PlacesChecked], None],
        revocations: Revocations,
        drain: Callable[[DrainNode], None],
        streams: Callable[[OfStreams], None],
        inspect: Callable[[Inspection], None],
    ) -> None:
        self._recheck = recheck
        self._revocations = revocations
        self._check = check
        self._checked = checked
        self._drain = drain
        self._streams = streams
        self._inspect = inspect

    def receive(self, payload: bytes) -> None:
        """Carry out one command; one that cannot be read is logged and left."""
        try:
            command = decode(payload)
        except ValueError:
            log.warning("control_invalid bytes=%d", len(payload))
        else:
            self._carry_out(command)

    def _carry_out(self, command: Command | None) -> None:
        match command:
            case GrantRevoked(channel, user):
                audit.grant_revoked(command)
                self._recheck.revoked(channel, user)
            case PlaceReplaced():
                self._revocations.hear(command)
            case Disconnect() | TokenRevoked() | TokensRevoked():
                if not (isinstance(command, Disconnect) and command.again):
                    audit.ending(command)
                self._revocations.hear(command)
            case CheckPlaces():
                self._check(command)
            case PlacesChecked():
                self._checked(command)
            case DrainNode():
                self._drain(command)
            case ClientRequest() | ClientAnswer() | ClientGone():
                self._streams(command)
            case Question() | Reply() | Watch() | Happened():
                self._inspect(command)
