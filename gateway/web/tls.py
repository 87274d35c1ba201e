"""TLS of a port that the gateway listens on. Its files are read again when they have changed: no restart is needed."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from cryptography import x509

from gateway.node.stats import Stats
from gateway.web.file_state import state_of

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 2.0
_DAY_SECONDS: Final = 86_400.0
_SOON_SECONDS: Final = 7 * _DAY_SECONDS
"""An operator is told every day of a certificate that ends sooner."""

_WAITING_BYTES: Final = 64 * 1024
"""What may wait for a client before the transport asks to pause: as much as without TLS, where it would be 512 KiB."""
_UNREAD_BYTES: Final = 64 * 1024
"""What may come from a client that is not read from. It must have room for more than a record of TLS, 16 KiB."""

_CAUSES: Final = {
    "CERTIFICATE_VERIFY_FAILED": "client_certificate",
    "HTTPS_PROXY_REQUEST": "plain_http",
    "HTTP_REQUEST": "plain_http",
    "NO_SHARED_CIPHER": "cipher",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_client_certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "certificate_not_trusted",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "certificate_ended",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "certificate_not_trusted",
    "TLSV1_ALERT_UNKNOWN_CA": "certificate_not_trusted",
    "UNSUPPORTED_PROTOCOL": "version",
}
"""Our word for what OpenSSL calls a failure."""


class BadCertificate(Exception):
    """A certificate, its key or an authority cannot be used; the message says which file, and why."""


@dataclass(frozen=True, slots=True)
class Files:
    """What a port shows and asks for, in PEM.

    Attributes:
        certificate: the port's own, and those that lead from it to an authority.
        key: of the first one, not encrypted.
        client_ca: the authorities of those who may connect; without it everybody may.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was in the files: of the certificate its file, and when it begins and ends, in Unix seconds."""

    context: ssl.SSLContext
    certificate: Path
    begins: float
    ends: float

    def refused_at(self, now: float) -> str | None:
        """Why every client refuses the certificate now, for its time, and what to do."""
        if now < self.begins:
            return f"{self.certificate} is not valid before {_date(self.begins)}: take one that is, or correct the clock"
        if now >= self.ends:
            return f"{self.certificate} has ended on {_date(self.ends)}: renew it"
        return None

    def doubt(self, now: float) -> str | None:
        """The same, or that it ends soon."""
        refused, left = self.refused_at(now), self.ends - now
        if refused is not None or left >= _SOON_SECONDS:
            return refused
        return f"{self.certificate} ends on {_date(self.ends)}, in {left / _DAY_SECONDS:.1f} days: renew it"


_Stamp: TypeAlias = "tuple[tuple[int, ...] | None, ...]"
"""What tells one state of the files from another."""


class ServerTls:
    """The TLS of one port: TLS 1.2 or later, and HTTP/1.1 in it.

    Args:
        port: its name, as in the log and the metrics.
        files: its certificate and key.
        stats: told when the certificate ends, and of each try to read a new one.
        wall_clock: Unix seconds.
    """

    def __init__(
        self, port: str, files: Files, stats: Stats, wall_clock: Callable[[], float]
    ) -> None:
        self._port = port
        self._files = files
        self._stats = stats
        self._wall_clock = wall_clock
        self._loaded: Loaded | None = None
        self._stamp: _Stamp = ()
        self._doubtful: _Stamp = ()
        self._told: _Stamp = ()
        self._warned = -math.inf

    @property
    def context(self) -> ssl.SSLContext:
        """For connections that are accepted now. It is never changed: those that are open keep theirs."""
        assert self._loaded is not None
        return self._loaded.context

    async def start(self) -> None:
        """Read the files.

        Raises:
            BadCertificate: they cannot be used.
        """
        self._stamp = await asyncio.to_thread(_stamp_of, self._files)
        self._take(await asyncio.to_thread(load, self._files))

    async def run(self) -> None:
        """Look again and again whether the files have changed."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Take over files that have changed."""
        stamp = await asyncio.to_thread(_stamp_of, self._files)
        if stamp != self._stamp:
            await self._read(stamp)
        self._warn_before_the_end()

    async def _read(self, stamp: _Stamp) -> None:
        try:
            loaded = await asyncio.to_thread(load, self._files)
            self._refuse_worse(loaded)
        except BadCertificate as error:
            # One file is renewed after the other: what does not fit together now may do so at the next look.
            if self._doubtful == stamp != self._told:
                self._told = stamp
                self._stats.tls_reloads["unusable"] += 1
                log.warning("tls_certificate_unusable port=%s reason=%r", self._port, str(error))
            self._doubtful = stamp
            return
        self._stamp = stamp
        self._take(loaded)
        self._stats.tls_reloads["renewed"] += 1
        log.info("tls_certificate_renewed port=%s ends=%s", self._port, _date(loaded.ends))

    def _refuse_worse(self, loaded: Loaded) -> None:
        """Keep a certificate that is valid rather than to take one that is not, or is not yet: then it is looked at again.

        Raises:
            BadCertificate: the one in use is the better one.
        """
        assert self._loaded is not None
        now = self._wall_clock()
        refused = loaded.refused_at(now)
        if refused is not None and self._loaded.refused_at(now) is None:
            kept = f"the former one stays in use, until {_date(self._loaded.ends)} at most"
            raise BadCertificate(f"{refused}; {kept}")

    def _take(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._warned = -math.inf
        self._stats.tls_certificates_end[self._port] = loaded.ends

    def _warn_before_the_end(self) -> None:
        assert self._loaded is not None
        wall = self._wall_clock()
        doubt, now = self._loaded.doubt(wall), asyncio.get_running_loop().time()
        if doubt is None or now - self._warned < _DAY_SECONDS:
            return
        self._warned = now
        if self._loaded.refused_at(wall) is not None:
            log.error("tls_certificate_not_valid port=%s reason=%r", self._port, doubt)
        else:
            log.warning("tls_certificate_ends port=%s reason=%r", self._port, doubt)


def load(files: Files) -> Loaded:
    """Read the files. Blocks.

    Raises:
        BadCertificate: they cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    own = _certificates(files.certificate)[0]
    _load_chain(context, files)
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authorities(context, files.client_ca)
    begins, ends = own.not_valid_before_utc, own.not_valid_after_utc
    return Loaded(context, files.certificate, begins.timestamp(), ends.timestamp())


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _certificates(path: Path) -> list[x509.Certificate]:
    """One at least."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from None
    except ValueError:
        raise BadCertificate(f"{path} holds no certificate in PEM") from None


def _unreadable(path: Path, error: OSError) -> BadCertificate:
    hint = "; write its path without an @" if str(path).startswith("@") else ""
    return BadCertificate(f"{path} cannot be read: {error.strerror}{hint}")


def _load_chain(context: ssl.SSLContext, files: Files) -> None:
    asked: list[str] = []

    def password() -> bytes:
        asked.append("")
        return b""

    try:
        # Without a function OpenSSL would ask for the password at the terminal.
        context.load_cert_chain(files.certificate, files.key, password)
    except ssl.SSLError as error:
        if asked:
            raise BadCertificate(
                f"{files.key} is encrypted: give a key without a password"
            ) from None
        if error.reason == "KEY_VALUES_MISMATCH":
            told = f"{files.certificate} and {files.key} do not belong together"
            raise BadCertificate(told) from None
        told = f"{files.certificate} or {files.key} cannot be used: {error.reason or 'no PEM'}"
        raise BadCertificate(told) from None
    except OSError as error:
        raise _unreadable(files.key, error) from None


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    found = _certificates(path)
    try:
        # It reads all that is in the file, also what stands after the first certificate.
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise BadCertificate(f"{path} cannot be used: {error.reason or 'no PEM'}") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    # One that has signed itself vouches for whoever shows it.
    if not context.cert_store_stats()["x509_ca"] and all(
        each.issuer != each.subject for each in found
    ):
        raise BadCertificate(
            f"{path} holds no authority: name the certificate of the one that has signed those of the clients"
        )


def _stamp_of(files: Files) -> _Stamp:
    return tuple(map(state_of, filter(None, (files.certificate, files.key, files.client_ca))))


def bound(transport: asyncio.Transport) -> None:
    """Let no more wait in the buffers of a connection with TLS than in those of one without."""
    transport.set_write_buffer_limits(_WAITING_BYTES)
    # asyncio.Transport does not have it, the transports with TLS of asyncio and uvloop do.
    cast(Any, transport).set_read_buffer_limits(_UNREAD_BYTES)


def cause_of(error: OSError) -> str:
    """Why a TLS handshake has failed, in one of a few words."""
    if isinstance(error, ssl.SSLError):
        return _CAUSES.get(error.reason or "", "malformed")
    return "overdue" if isinstance(error, ConnectionAbortedError | TimeoutError) else "left"
