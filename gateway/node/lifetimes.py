"""The beginning and the end of a connection: what the parts of a node are told of it."""

from __future__ import annotations

from gateway.core import closing, protocol
from gateway.node import audit
from gateway.node.confirmation import Confirmation
from gateway.node.connection import Connection
from gateway.node.heartbeats import Heartbeats
from gateway.node.hub import Hub
from gateway.node.stalls import Patience
from gateway.node.subscriptions import Subscriptions
from gateway.node.tokens import Tokens


class Lifetimes:
    """Begins and ends the connections of a node."""

    def __init__(
        self,
        hub: Hub,
        subscriptions: Subscriptions,
        tokens: Tokens,
        heartbeats: Heartbeats,
        confirmation: Confirmation,
        patience: Patience,
    ) -> None:
        self._hub = hub
        self._subscriptions = subscriptions
        self._tokens = tokens
        self._heartbeats = heartbeats
        self._confirmation = confirmation
        self._patience = patience

    def begin(self, connection: Connection, answer: bytes, **names: str) -> None:
        """Take in a connection and greet it, in one write with the ``answer`` to its request; ``names`` as in ``protocol.connected``."""
        self._hub.send(connection, answer)
        self._hub.stats.connections_opened += 1
        self._hub.connections[connection.id] = connection
        self._hub.event_log.connected(connection)
        self._heartbeats.watch(connection)
        self._tokens.watch(connection)
        self._hub.tell(connection, protocol.connected(connection.user, **names))

    def congested(self, connection: Connection) -> None:
        """More waits for a client than it takes at once."""
        self._patience.watch(connection)

    def fail(self, connection: Connection) -> None:
        """Close a connection in which a defect has shown: nobody knows its state."""
        self._hub.close(connection, closing.INTERNAL_ERROR)

    def end(self, connection: Connection, code: int | None) -> None:
        """Forget a connection whose client has closed it, or whose socket is gone.

        Args:
            connection: the connection.
            code: the client's close code; ``None`` when it has sent none.
        """
        if not connection.closed:
            audit.ended(connection, code, "")
            self._hub.stats.connections_closed[closing.label(code)] += 1
        # An answer that is due in this turn goes out before our close frame does.
        self._hub.flush_to(connection)
        connection.closed = True
        self._hub.connections.pop(connection.id, None)
        self._heartbeats.forget(connection)
        self._tokens.forget(connection)
        self._patience.forget(connection)
        self._subscriptions.leave_all(connection)
        self._hub.event_log.disconnected(connection)
        self._confirmation.departed()
