"""Cluster-wide commands, as this node carries them out."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.node.recheck import Recheck
from publisher.contract.control import GrantRevoked, ReconcilePlaces, decode

log = logging.getLogger(__name__)


class Control:
    """Carries out the commands that arrive on the control channel.

    Args:
        reconcile: told the user whose places the nodes (by id) are to look through.
    """

    def __init__(self, recheck: Recheck, reconcile: Callable[[str, tuple[str, ...]], None]) -> None:
        self._recheck = recheck
        self._reconcile = reconcile

    def receive(self, payload: bytes) -> None:
        """Carry out one command; one that cannot be read is logged and left."""
        try:
            command = decode(payload)
        except ValueError:
            log.warning("control_invalid bytes=%d", len(payload))
            return
        match command:
            case GrantRevoked(channel, user):
                self._recheck.revoked(channel, user)
            case ReconcilePlaces(user, nodes):
                self._reconcile(user, nodes)
