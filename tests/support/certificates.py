"""An authority of the test's own, and certificates that it signs."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """Files in PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates, and keeps them in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("authority")
        self._own = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))
        self.certificate = folder / "ca.crt"
        self.certificate.write_bytes(self._own.public_bytes(serialization.Encoding.PEM))

    def sign(
        self,
        name: str,
        *,
        addresses: tuple[str, ...] = (),
        lasts: dt.timedelta = _DAY,
        begins: dt.timedelta = -_DAY,
    ) -> Certificate:
        """A certificate for the host ``name`` and these IP addresses, from ``begins`` from now on until ``lasts`` from now. Another one for this name replaces its files."""
        key = ec.generate_private_key(ec.SECP256R1())
        hosts = x509.SubjectAlternativeName(
            [
                x509.DNSName(name),
                *(x509.IPAddress(ipaddress.ip_address(each)) for each in addresses),
            ]
        )
        files = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        signed = self._sign(_named(name), key, hosts, lasts, begins)
        files.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def _sign(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
        lasts: dt.timedelta = _DAY,
        begins: dt.timedelta = -_DAY,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + lasts)
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self._key, hashes.SHA256())
        )


def trusting(authority: Authority, own: Certificate | None = None) -> ssl.SSLContext:
    """What a client needs that trusts this authority, and shows a certificate of its ``own``."""
    context = ssl.create_default_context(cafile=authority.certificate)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
