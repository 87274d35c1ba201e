"""The files of a port's TLS: which are refused, and when changed ones are taken over."""

from __future__ import annotations

import datetime as dt
import logging
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from gateway.credentials import internal_tls_files, tls_files
from gateway.node.stats import Stats
from gateway.settings import Settings
from gateway.web import tls as module
from gateway.web.tls import BadCertificate, Files, ServerTls, cause_of, load
from tests.support.certificates import Authority, Certificate


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def own(authority: Authority) -> Certificate:
    return authority.sign("localhost")


def files(own: Certificate) -> Files:
    return Files(own.certificate, own.key)


def refused(given: Files) -> str:
    with pytest.raises(BadCertificate) as caught:
        load(given)
    return str(caught.value)


# -- which are refused ----------------------------------------------------------------------------


def test_a_port_speaks_tls_of_1_2_and_later_and_lets_nobody_renegotiate(own: Certificate) -> None:
    context = load(files(own)).context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert ssl.OP_NO_RENEGOTIATION in context.options
    assert context.verify_mode is ssl.CERT_NONE


def test_where_an_authority_is_named_each_client_must_show_a_certificate(
    authority: Authority, own: Certificate
) -> None:
    context = load(Files(own.certificate, own.key, authority.certificate)).context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


def test_files_that_cannot_be_used_are_named_with_the_reason(
    authority: Authority, own: Certificate, tmp_path: Path
) -> None:
    other, missing, text = authority.sign("other"), tmp_path / "none", tmp_path / "text"
    text.write_text("no PEM")
    cases = {
        Files(missing, own.key): f"{missing} cannot be read: No such file or directory",
        Files(own.certificate, missing): f"{missing} cannot be read: No such file or directory",
        Files(text, own.key): f"{text} holds no certificate in PEM",
        Files(own.key, own.key): f"{own.key} holds no certificate in PEM",
        Files(
            own.certificate, other.key
        ): f"{own.certificate} and {other.key} do not belong together",
        Files(
            own.certificate, own.key, missing
        ): f"{missing} cannot be read: No such file or directory",
        Files(own.certificate, own.key, text): f"{text} holds no certificate in PEM",
    }
    cases |= {
        Files(
            Path("@none"), own.key
        ): "@none cannot be read: No such file or directory; write its path without an @",
        Files(
            own.certificate, own.key, other.certificate
        ): f"{other.certificate} holds no authority: "
        "name the certificate of the one that has signed those of the clients",
    }
    for given, told in cases.items():
        assert refused(given) == told
    assert str(text) in refused(Files(own.certificate, text))


BROKEN: dict[str, Callable[[str], str]] = {
    "a half": lambda block: block[: len(block) // 2],
    "a revocation list": lambda _: "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    "of another kind": lambda block: block.replace(" CERTIFICATE", " TRUSTED CERTIFICATE")[:200],
}
"""What may stand after a good certificate in a file that is being written, or that was put together by hand."""


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
async def test_authorities_of_which_one_is_broken_are_refused_and_the_last_good_ones_kept(
    authority: Authority,
    own: Certificate,
    spoil: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = Files(own.certificate, own.key, authority.certificate)
    tls = ServerTls("internal", given, Stats(), time.time)
    await tls.start()
    before, good = tls.context, authority.certificate.read_text()
    authority.certificate.write_text(good + spoil(good))
    assert refused(given).startswith(f"{authority.certificate} cannot be used: ")
    for _ in range(4):
        await tls.look()
    assert tls.context is before
    assert caplog.text.count("tls_certificate_unusable port=internal reason=") == 1
    assert tls._stats.tls_reloads == {"unusable": 1}
    authority.certificate.write_text(good)
    await tls.look()
    assert tls.context is not before


async def test_authorities_that_vanish_while_they_are_read_are_refused(
    authority: Authority, own: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Files(own.certificate, own.key, authority.certificate)
    all_in = module._certificates

    def read(path: Path) -> Any:
        found = all_in(path)
        if path == authority.certificate:
            path.unlink()
        return found

    monkeypatch.setattr(module, "_certificates", read)
    assert refused(given) == f"{authority.certificate} cannot be read: No such file or directory"


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(own: Certificate) -> None:
    key = serialization.load_pem_private_key(own.key.read_bytes(), None)
    own.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    assert refused(files(own)) == f"{own.key} is encrypted: give a key without a password"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"tls_certificate": "x"}, "GATEWAY_TLS_CERTIFICATE and GATEWAY_TLS_KEY go together"),
        ({"tls_key": "x"}, "GATEWAY_TLS_CERTIFICATE and GATEWAY_TLS_KEY go together"),
        (
            {"internal_tls_key": "x"},
            "GATEWAY_INTERNAL_TLS_CERTIFICATE and GATEWAY_INTERNAL_TLS_KEY",
        ),
        ({"internal_tls_client_ca": "x"}, "GATEWAY_INTERNAL_TLS_CLIENT_CA goes with"),
        (
            {"tls_certificate": "x", "tls_key": "x", "proxy_protocol": True},
            "GATEWAY_TLS_CERTIFICATE and GATEWAY_PROXY_PROTOCOL do not go together",
        ),
    ],
)
def test_settings_of_tls_that_do_not_go_together_are_refused(
    given: dict[str, object], told: str
) -> None:
    settings = Settings(**given)
    with pytest.raises(BadCertificate, match=told):
        (tls_files(settings), internal_tls_files(settings))


def test_without_a_certificate_there_is_no_tls() -> None:
    assert tls_files(Settings()) is None
    assert internal_tls_files(Settings()) is None


# -- when they are taken over ---------------------------------------------------------------------


@pytest.fixture
async def tls(own: Certificate) -> ServerTls:
    tls = ServerTls("clients", files(own), Stats(), time.time)
    await tls.start()
    return tls


async def test_a_new_certificate_makes_a_new_context_and_leaves_the_old_one_alone(
    authority: Authority, own: Certificate, tls: ServerTls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before, ends = tls.context, tls._stats.tls_certificates_end["clients"]
    await tls.look()
    assert tls.context is before
    authority.sign("localhost", lasts=dt.timedelta(days=30))
    await tls.look()
    assert tls.context is not before
    assert tls._stats.tls_reloads == {"renewed": 1}
    assert tls._stats.tls_certificates_end["clients"] == pytest.approx(ends + 29 * 86_400, abs=60)
    assert "tls_certificate_renewed port=clients ends=20" in caplog.text


async def test_a_certificate_behind_links_that_are_moved_is_taken_over(
    authority: Authority, own: Certificate, tmp_path: Path
) -> None:
    """As Kubernetes does: the files are links into ``..data``, which is a link to a folder and is replaced."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        for each in (own.certificate, own.key):
            shutil.copy(each, tmp_path / name)
        own = authority.sign("localhost")
    (tmp_path / "..data").symlink_to("first")
    given = Files(tmp_path / "..data/localhost.crt", tmp_path / "..data/localhost.key")
    tls = ServerTls("clients", given, Stats(), time.time)
    await tls.start()
    before = tls.context
    (tmp_path / "new").symlink_to("second")
    (tmp_path / "new").replace(tmp_path / "..data")
    await tls.look()
    assert tls.context is not before


async def test_a_certificate_whose_key_comes_later_is_waited_for_in_silence(
    authority: Authority, own: Certificate, tls: ServerTls, caplog: pytest.LogCaptureFixture
) -> None:
    before = tls.context
    old = own.key.read_bytes()
    authority.sign("localhost")
    new = own.key.read_bytes()
    own.key.write_bytes(old)
    await tls.look()
    assert tls.context is before
    own.key.write_bytes(new)
    await tls.look()
    assert tls.context is not before
    assert "unusable" not in caplog.text
    assert tls._stats.tls_reloads == {"renewed": 1}


async def test_what_stays_unusable_is_told_once_and_the_old_one_is_kept(
    authority: Authority, own: Certificate, tls: ServerTls, caplog: pytest.LogCaptureFixture
) -> None:
    before = tls.context
    for count, spoil in enumerate((lambda: own.key.write_text("no PEM"), own.key.unlink), 1):
        spoil()
        for _ in range(4):
            await tls.look()
        assert tls.context is before
        assert caplog.text.count("tls_certificate_unusable port=clients reason=") == count
        assert tls._stats.tls_reloads == {"unusable": count}
    authority.sign("localhost")
    await tls.look()
    assert tls.context is not before


@pytest.mark.parametrize(("days", "warnings"), [(6, 1), (8, 0)])
async def test_a_certificate_that_ends_within_a_week_is_told_of_once_a_day(
    authority: Authority, days: int, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    soon = authority.sign("soon", lasts=dt.timedelta(days=days))
    tls = ServerTls("internal", files(soon), Stats(), time.time)
    await tls.start()
    for _ in range(3):
        await tls.look()
    told = [each.getMessage() for each in caplog.records]
    assert len(told) == warnings
    assert all("tls_certificate_ends port=internal reason=" in each for each in told)
    tls._warned -= 86_400
    await tls.look()
    assert len(caplog.records) == 2 * warnings


OTHER_TIMES = {
    "ended": ({"lasts": -dt.timedelta(hours=2)}, "has ended on 20"),
    "not begun": (
        {"begins": dt.timedelta(hours=2), "lasts": dt.timedelta(days=30)},
        "is not valid before 20",
    ),
}


@pytest.mark.parametrize(("times", "told"), OTHER_TIMES.values(), ids=OTHER_TIMES)
async def test_one_that_clients_refuse_for_its_time_replaces_no_good_one(
    authority: Authority,
    own: Certificate,
    times: dict[str, Any],
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = time.time()
    tls = ServerTls("clients", files(own), Stats(), lambda: now)
    await tls.start()
    before, ends = tls.context, tls._stats.tls_certificates_end["clients"]
    authority.sign("localhost", **times)
    for _ in range(4):
        await tls.look()
    assert tls.context is before
    assert tls._stats.tls_certificates_end["clients"] == ends
    assert tls._stats.tls_reloads == {"unusable": 1}
    [line] = [each for each in caplog.messages if "unusable" in each]
    assert f"{own.certificate} {told}" in line
    assert "the former one stays in use, until 20" in line
    # When it has begun, or when the former one has ended as well, it is taken over.
    now += 10_800 if "begins" in times else 86_400
    await tls.look()
    assert tls.context is not before


@pytest.mark.parametrize(("times", "told"), OTHER_TIMES.values(), ids=OTHER_TIMES)
async def test_a_start_with_one_that_clients_refuse_for_its_time_is_told(
    authority: Authority, times: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    tls = ServerTls("clients", files(authority.sign("localhost", **times)), Stats(), time.time)
    await tls.start()
    for _ in range(3):
        await tls.look()
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith("tls_certificate_not_valid port=clients reason=")
    assert told in record.getMessage()


def test_strangers_cause_few_kinds_of_failures() -> None:
    error = ssl.SSLError(1, "x")
    error.reason = "SOMETHING_NEW"
    assert cause_of(error) == "malformed"
    assert cause_of(ConnectionResetError()) == "left"
    assert cause_of(ConnectionAbortedError("SSL handshake is taking longer")) == "overdue"
