"""Whom the clients' port refuses, counted one by one, and whom it does not believe: logged now and then."""

from __future__ import annotations

import logging
import math
from typing import Final

from gateway.core import closing
from gateway.core.handshake import Refusal
from gateway.core.log_limit import LogLimit
from gateway.node import audit
from gateway.node.ports import Clock
from gateway.node.stats import Stats
from gateway.web.failed_authentications import FailedAuthentications
from gateway.web.new_connection import NewConnection
from gateway.web.wasted_tls import WastedTls

log = logging.getLogger(__name__)

_LONGEST_DETAIL: Final = 200

_HINTS: Final = {
    "tls": "a client speaks TLS to this port, which speaks plain HTTP; the load balancer should end TLS, "
    "or the gateway with GATEWAY_TLS_CERTIFICATE",
    "plain_http": "a client speaks plain HTTP to this port, which speaks TLS; its URL must begin with https or wss",
    "version": "a client speaks no TLS 1.2 or later",
    "certificate_not_trusted": "a client does not trust this port's certificate; "
    "its file must also hold the certificates that lead to the authority",
    "certificate_ended": "a client says that this port's certificate has ended; renew it, or the client's clock is wrong",
    "no_client_certificate": "whoever connects to this port must show a certificate",
    "client_certificate": "a certificate that was shown to this port is not signed by its authority, or has ended",
    "http2": "a client speaks HTTP/2 to this port, which speaks HTTP/1.1 only",
    "proxy_protocol_missing": "GATEWAY_PROXY_PROTOCOL is set, and a proxy among GATEWAY_TRUSTED_PROXIES does not send its header",
    "proxy_protocol": "a proxy begins connections with the PROXY protocol; GATEWAY_PROXY_PROTOCOL is not set, "
    "or the proxy is not among GATEWAY_TRUSTED_PROXIES",
    "upgrade_removed": "a proxy in front has removed the headers Upgrade or Connection; it must pass on both",
    "other_path": "a client asks for a WebSocket at another path than GATEWAY_PATH",
}
"""What an operator should mend, by the cause."""
_FAILURES: Final = frozenset(
    each.reason
    for each in (closing.TOKEN_MISSING, closing.TOKEN_INVALID, closing.TOKEN_KEY_UNKNOWN)
)
"""Why a stranger is refused. Whose token has ended, begins later or was revoked is none: plain clients come back with such
a token each second for as long as a page is open. Whose key is in no set that was fetched in the last ten seconds is one,
since anybody can make up its name. Where it is published a moment later nobody is shut out: who shows a valid token never is.
"""
_TOO_MANY_FAILURES: Final = Refusal(
    429, "too_many_failures", "too often no valid token was shown from this address"
)
_NOT_TRUSTED: Final = (
    "X-Forwarded-For or Forwarded came from an address that is not among GATEWAY_TRUSTED_PROXIES, and is not believed; "
    "if it is a proxy of yours, name its network there"
)


class RefusedConnections:
    """Counts every refusal. Anybody can cause one, so only a few of each kind are logged."""

    def __init__(
        self, stats: Stats, failures: FailedAuthentications, wasted_tls: WastedTls, clock: Clock
    ) -> None:
        self._stats = stats
        self._failures = failures
        self._wasted_tls = wasted_tls
        self._clock = clock
        self._limit = LogLimit(clock())
        self._hint_limit = LogLimit(clock(), burst=1.0)

    def note(self, reason: str, address: str | None, cause: str = "", **details: str) -> None:
        """One was refused.

        Args:
            reason: one of a few words, as in the metric.
            address: the client's; ``None`` when it is not known.
            cause: one of a few words that tell more.
            details: what the client has said: never a token, nor anything else that may hold one.
        """
        self._stats.connections_refused[reason] += 1
        left_out = self._limit.admit(f"{reason} {cause}", self._clock())
        if left_out is None:
            return
        user, origin = details.get("user"), details.get("origin")
        audit.refused(
            reason,
            address,
            left_out,
            user=user,
            origin=origin and origin[:_LONGEST_DETAIL],
        )
        told = {"cause": cause, **details, "hint": _HINTS.get(cause, "")}
        more = {name: value[:_LONGEST_DETAIL] for name, value in told.items() if value}
        template = "connection_refused reason=%s address=%s left_out=%s" + "".join(
            f" {name}=%r" for name in more
        )
        log.info(template, reason, address or "unknown", left_out or None, *more.values())

    def not_believed(self, peer: str) -> None:
        """What this peer has said of the client behind it does not count. Anybody can say it, so few lines tell of it.

        Args:
            peer: the address at the other end of a connection.
        """
        left_out = self._hint_limit.admit("proxy_not_trusted", self._clock())
        if left_out is not None:
            log.info(
                "proxy_not_trusted peer=%s left_out=%s hint=%r",
                peer,
                left_out or None,
                _NOT_TRUSTED,
            )

    def wasted(self, connection: NewConnection) -> None:
        """One has cost a handshake of TLS, and shows no token any more."""
        self._wasted_tls.note(connection.block)

    def tls_turn(self, block: str | None, address: str | None) -> float | None:
        """In how many seconds TLS may be begun with one from an address; ``None``, and counted, where too many wait."""
        seconds = self._wasted_tls.turn(block)
        if seconds is None:
            self.note(_TOO_MANY_FAILURES.code, address, "tls_wasted")
        return seconds

    def reject(
        self, connection: NewConnection, reason: str, cause: str = "", **details: str
    ) -> bool:
        """One is not let in, as ``note`` has it. Whether it is to be told so after the upgrade.

        It is not where strangers have shown no valid token too often from its address: then it has been answered in HTTP.
        """
        if reason in _FAILURES:
            if connection.plain_socket is None:
                self.wasted(connection)
            seconds = self._failures.wait(connection.block)
            if seconds:
                again = {"Retry-After": str(math.ceil(seconds))}
                self.refuse(connection, _TOO_MANY_FAILURES.also(again), cause)
                return False
            self._failures.note(connection.block)
        self.note(reason, connection.address, cause, **details)
        return True

    def refuse(
        self, connection: NewConnection, refusal: Refusal, cause: str = "", **details: str
    ) -> None:
        """Answer one in HTTP, and end its connection; as ``note`` has it."""
        self.note(refusal.code, connection.address, cause or refusal.cause, **details)
        connection.refuse(refusal)
