"""The audit log of a node: who was let in, refused and ended, and what was taken from whom, by whom.

Nothing is written, and nothing is made ready for it, unless ``GATEWAY_AUDIT_LOG`` names a place (``gateway/audit_log.py``).
No token is ever told, only the digest of its ``jti``.
"""

from __future__ import annotations

import logging

from gateway.node.connection import Connection
from publisher.contract.control import Disconnect, GrantRevoked, TokenRevoked, TokensRevoked
from publisher.contract.grants import Everybody
from publisher.contract.revocations import digest_of

log = logging.getLogger("gateway.audit")
# Whoever has not asked for it finds it nowhere, nor among the lines of the node's own log.
log.propagate = False
log.disabled = True


def admitted(connection: Connection, origin: str | None) -> None:
    """A connection has begun; ``origin`` is that of its page, where it has one."""
    if log.isEnabledFor(logging.INFO):
        log.info(
            "admitted user=%s address=%s connection=%s origin=%s token=%s",
            connection.user,
            connection.address,
            connection.id,
            origin,
            _token(connection),
        )


def refused(
    code: str,
    address: str | None,
    left_out: int,
    *,
    user: str | None = None,
    origin: str | None = None,
) -> None:
    """Somebody was not let in; ``left_out`` were not told of since the last one of the same kind."""
    log.info(
        "refused code=%s address=%s user=%s origin=%s left_out=%s",
        code,
        address,
        user,
        origin,
        left_out or None,
    )


def ended(connection: Connection, code: int | None, reason: str, actor: str | None = None) -> None:
    """A connection is over; ``code`` is that of the close frame, if there was one, and ``reason`` the node's own.

    ``actor``: on whose behalf, where a backend has ended it.
    """
    if log.isEnabledFor(logging.INFO):
        log.info(
            "ended user=%s address=%s connection=%s token=%s code=%s reason=%s actor=%s",
            connection.user,
            connection.address,
            connection.id,
            _token(connection),
            code,
            reason or None,
            actor,
        )


def _token(connection: Connection) -> str | None:
    token_id = connection.identity.token_id
    return None if token_id is None else digest_of(token_id)


def grant_revoked(command: GrantRevoked) -> None:
    """A grant was taken back, or made shorter."""
    everybody = isinstance(command.user, Everybody)
    log.info(
        "grant_revoked channel=%s user=%s everybody=%s actor=%s",
        command.channel,
        None if everybody else command.user,
        everybody or None,
        command.actor,
    )


def api_call(call: str, key: str, user: object, channel: object, outcome: str) -> None:
    """Somebody with a key of the HTTP API has changed whose access, or has tried to."""
    log.info(
        "api_call call=%s key=%s user=%s channel=%s outcome=%s", call, key, user, channel, outcome
    )


def ending(command: Disconnect | TokenRevoked | TokensRevoked) -> None:
    """A backend ends connections, or revokes tokens."""
    match command:
        case Disconnect():
            log.info(
                "disconnect user=%s connection=%s reason=%s actor=%s",
                command.user,
                command.connection,
                command.reason or None,
                command.actor,
            )
        case TokenRevoked():
            log.info("token_revoked token=%s actor=%s", command.digest, command.actor)
        case TokensRevoked():
            log.info(
                "tokens_revoked user=%s before=%s actor=%s",
                command.user,
                command.before,
                command.actor,
            )
