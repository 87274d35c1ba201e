"""Who is let in, and what the others are told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import struct
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.integration.conftest import StartNode
from tests.support.client import connected, opened
from tests.support.client_frames import TEXT, client_frame
from tests.support.nodes import Node
from tests.support.raw import CLOSE, handshake_request, raw_client
from tests.support.tokens import SECRET, make_token
from tests.support.waiting import until


async def test_the_greeting_has_the_documented_shape(node: Node) -> None:
    async with opened(node.url, make_token("user-123")) as client:
        assert await client.receive() == {
            "type": "connected",
            "message": "WebSocket connection established",
            "userId": "user-123",
        }


@pytest.mark.parametrize("path", ["", "/", "/ws"])
async def test_both_paths_serve(node: Node, path: str) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"{node.url}{path}?token={make_token('u')}"
        async with session.ws_connect(url) as socket:
            assert (await socket.receive_json())["type"] == "connected"


async def test_the_token_may_stand_in_a_header(node: Node) -> None:
    headers = {"Authorization": f"Bearer {make_token('u')}"}
    async with connected(node.url, headers=headers):
        pass


async def test_the_token_may_be_a_subprotocol_and_is_never_echoed(node: Node) -> None:
    offered = ("realtime", f"bearer.{make_token('u')}")
    async with connected(node.url, protocols=offered) as client:
        assert client.socket.protocol == "realtime"


REJECTED = {
    "missing": (None, "token_missing"),
    "empty": ("", "token_missing"),
    "malformed": ("abc", "token_invalid"),
    "expired": (make_token("u", exp=int(time.time()) - 60), "token_expired"),
    "not valid yet": (make_token("u", nbf=int(time.time()) + 86_400), "token_not_yet_valid"),
    "without expiry": (jwt.encode({"sub": "u"}, SECRET, "HS256"), "token_invalid"),
    "without user": (jwt.encode({"exp": 2**31}, SECRET, "HS256"), "token_invalid"),
    "with a user that is no string": (
        jwt.encode({"sub": 5, "exp": 2**31}, SECRET, "HS256"),
        "token_invalid",
    ),
    "with channels that are no list": (
        make_token("u", channels="notifications/v"),
        "token_invalid",
    ),
    "signed with another secret": (
        jwt.encode({"sub": "u", "exp": 2**31}, SECRET[::-1], "HS256"),
        "token_invalid",
    ),
    "unsigned": (jwt.encode({"sub": "u", "exp": 2**31}, None, "none"), "token_invalid"),
}


@pytest.mark.parametrize(("token", "code"), REJECTED.values(), ids=REJECTED)
async def test_a_bad_token_is_told_and_closed_with_1008(
    node: Node, token: str | None, code: str
) -> None:
    async with opened(node.url, token) as client:
        error = await client.expect(type="error", code=code)
        assert error["message"]
        assert await client.expect_close() == (1008, code)


@pytest.mark.parametrize(
    "header", [b"Authorization: Bearer a\xff.b.c", b"Authorization: Bearer \x80"]
)
async def test_credentials_that_are_no_text_are_told_so_too(node: Node, header: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(node.url.rpartition(":")[2]))
    writer.write(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        + header
        + b"\r\n\r\n"
    )
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 101")
    assert b"token_invalid" in answer
    writer.close()
    await writer.wait_closed()


async def test_only_the_websocket_of_the_standard_is_spoken(node: Node) -> None:
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "8",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    url = f"{node.url.replace('ws', 'http', 1)}?token={make_token('u')}"
    async with aiohttp.ClientSession() as session:
        async with session.get(url, headers=headers) as answer:
            assert (answer.status, answer.headers["Sec-WebSocket-Version"]) == (426, "13")
        async with session.head(url, headers=headers) as answer:
            assert answer.status == 405


RSA = rsa.generate_private_key(65537, 2048)
KEYS = {
    "RS256": RSA,
    "PS512": RSA,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


@pytest.mark.parametrize(("algorithm", "key"), KEYS.items(), ids=KEYS)
async def test_public_keys_verify_their_own_algorithms_only(
    start_node: StartNode, algorithm: str, key: rsa.RSAPrivateKey
) -> None:
    node = await start_node(jwt_secret=None, jwt_public_key=pem(key))
    claims = {"sub": "u", "exp": 2**31}
    async with connected(node.url, jwt.encode(claims, key, algorithm)):
        pass
    # The old confusion: the public key, which everybody has, taken for an HMAC secret.
    header = jwt.utils.base64url_encode(b'{"alg":"HS256","typ":"JWT"}')
    body = jwt.utils.base64url_encode(b'{"sub":"u","exp":2147483648}')
    signed = header + b"." + body
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        signed, pem(key).encode()
    )
    forged = (signed + b"." + jwt.utils.base64url_encode(signature)).decode()
    async with opened(node.url, forged) as client:
        await client.expect(type="error", code="token_invalid")


async def test_audience_issuer_and_user_claim_are_checked_when_configured(
    start_node: StartNode,
) -> None:
    node = await start_node(jwt_audience="gateway", jwt_issuer="school", jwt_user_claim="uid")
    good = make_token("ignored", uid="pupil", aud="gateway", iss="school")
    async with opened(node.url, good) as client:
        await client.expect(type="connected", userId="pupil")
    for bad in (
        make_token("u", uid="p", iss="school"),
        make_token("u", uid="p", aud="gateway"),
        make_token("u", uid="p", aud="other", iss="school"),
        make_token("u", aud="gateway", iss="school"),
    ):
        async with opened(node.url, bad) as client:
            await client.expect(type="error", code="token_invalid")


async def test_leeway_lets_clocks_differ(start_node: StartNode) -> None:
    node = await start_node(jwt_leeway_seconds=120)
    async with connected(node.url, make_token("u", exp=int(time.time()) - 60)) as client:
        [connection] = node.gateway.hub.connections.values()
        assert connection.identity.expires_at is not None
        assert connection.identity.expires_at > time.time() + 30
        await client.sync()


async def test_a_connection_ends_when_its_token_does(start_node: StartNode) -> None:
    node = await start_node(jwt_leeway_seconds=0)
    async with connected(node.url, make_token("u", exp=int(time.time()) + 2)) as client:
        await client.expect(type="token_expiring")
        await client.expect(type="error", code="token_expired")
        assert await client.expect_close() == (1008, "token_expired")


async def test_a_refreshed_token_keeps_the_connection(start_node: StartNode) -> None:
    node = await start_node(jwt_leeway_seconds=0, token_expiring_seconds=0)
    async with connected(node.url, make_token("u", exp=int(time.time()) + 2)) as client:
        await client.send({"type": "refresh", "token": make_token("v")})
        await client.expect(type="error", code="token_invalid")
        await client.send({"type": "refresh", "token": "nonsense"})
        await client.expect(type="error", code="token_invalid")
        await client.send({"type": "refresh", "token": make_token("u", exp=int(time.time()) + 4)})
        started = time.monotonic()
        await client.expect(type="error", code="token_expired")
        assert time.monotonic() - started > 2


async def test_a_refresh_that_is_refused_is_logged_with_its_reason_and_never_with_its_token(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connected(node.url, make_token("u")) as client:
        for token in (make_token("v"), "nonsense", make_token("u", exp=None)):
            await client.send({"type": "refresh", "token": token})
            await client.expect(type="error", code="token_invalid")
    lines = [each for each in caplog.messages if each.startswith("refresh_rejected")]
    assert [each.partition(" reason=")[2] for each in lines] == [
        "it is another user's left_out=None",
        "it cannot be read (DecodeError) left_out=None",
        "claim 'exp' is missing left_out=None",
    ]


async def test_refreshes_with_tokens_of_others_are_logged_now_and_then(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connected(node.url, make_token("u")) as client:
        for _ in range(20):
            await client.send({"type": "refresh", "token": make_token("v")})
            await client.expect(type="error", code="token_invalid")
    lines = [each for each in caplog.messages if each.startswith("refresh_rejected")]
    assert 10 <= len(lines) <= 12


async def test_a_full_node_answers_503_with_retry_after(start_node: StartNode) -> None:
    node = await start_node(max_connections=2)
    async with connected(node.url, make_token("u")), connected(node.url, make_token("u")):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with opened(node.url, make_token("v")):
                pass
        assert refused.value.status == 503
        assert refused.value.headers is not None
        assert int(refused.value.headers["Retry-After"]) > 0
    await until(lambda: room_taken(node) == 0)
    async with connected(node.url, make_token("v")):
        pass


def room_taken(node: Node) -> int:
    """How many connections the node counts."""
    return node.gateway.entrance.client_port._handshakes._admission._present


async def test_who_has_left_holds_room_until_its_connection_is_over(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not have taken what was written. The user has the place back all the same."""
    monkeypatch.setattr("gateway.web.outgoing.LINGER_SECONDS", 300.0)
    node = await start_node(max_connections=2, max_connections_per_user=1)
    async with raw_client(node.url, make_token("u")) as client:
        client.writer.write(client_frame(CLOSE, b"\x03\xe8"))
        await client.next(CLOSE)
        assert not node.gateway.hub.connections
        async with connected(node.url, make_token("u")):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with opened(node.url, make_token("v")):
                    pass
            assert refused.value.status == 503
    await until(lambda: room_taken(node) == 0)


async def test_a_crowd_that_is_read_in_one_turn_does_not_slip_past_the_limit(
    start_node: StartNode,
) -> None:
    node = await start_node(max_connections=3)
    port = int(node.url.rpartition(":")[2])
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
    for number, (_, writer) in enumerate(crowd):
        writer.write(request_of(node.url, make_token(f"u{number}")))
    answers = [await reader.readuntil(b"\r\n") for reader, _ in crowd]
    for _, writer in crowd:
        writer.close()
    assert sorted(answer.split()[1] for answer in answers) == [b"101"] * 3 + [b"503"] * 9


async def test_only_listed_origins_may_connect(start_node: StartNode) -> None:
    node = await start_node(allowed_origins=["https://school.example"])
    async with connected(node.url, make_token("u"), origin="https://school.example"):
        pass
    async with connected(node.url, make_token("u")):
        pass
    # That comes first, whatever else is wrong.
    for url in (node.url, f"{node.url}?{'&' * 200}"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with opened(url, make_token("u"), origin="https://evil.example"):
                pass
        assert refused.value.status == 403


async def test_a_request_that_is_no_websocket_is_told_so(node: Node) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(node.url.replace("ws", "http", 1)) as answer:
            assert answer.status == 426
            assert (await answer.json())["error"]["code"] == "upgrade_required"


async def test_no_token_reaches_the_log(
    node: Node, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    token = make_token("u")
    async with connected(node.url, token):
        pass
    async with connected(node.url, protocols=("realtime", f"bearer.{token}")):
        pass
    with pytest.raises(aiohttp.WSServerHandshakeError):
        async with opened(node.url, token + "x", headers={"Sec-WebSocket-Version": "1"}):
            pass
    await until(lambda: not node.gateway.hub.connections)
    assert token not in caplog.text
    assert token not in "".join(capfd.readouterr())


# -- clients that leave, and requests that are none ---------------------------------------------


def request_of(url: str, token: str | None) -> bytes:
    whole = handshake_request(url, token or "")
    return whole if token is not None else whole.replace(b"/?token=", b"/")


LEAVING = {
    "before a byte": lambda _url: b"",
    "in the request line": lambda _url: b"GET /?tok",
    "in the headers": lambda url: request_of(url, make_token("u"))[:-9],
    "with a request that is no WebSocket": lambda _url: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "without a token": lambda url: request_of(url, None),
    "with a bad token": lambda url: request_of(url, "abc"),
    "with an expired token": lambda url: request_of(url, make_token("u", exp=1)),
    "with a good token": lambda url: request_of(url, make_token("u")),
    "with a good token and the first message": lambda url: (
        request_of(url, make_token("u")) + client_frame(TEXT, b'{"type": "heartbeat"}')
    ),
    "with a request that is malformed": lambda _url: (
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n"
    ),
    "with a version that is none": lambda _url: b"GET / HTTP/9.x\r\n\r\n",
    "with what is no HTTP": lambda _url: (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(99)
    ),
    "with a WebSocket key that is none": lambda url: re.sub(
        rb"Sec-WebSocket-Key: .*\r\n", b"Sec-WebSocket-Key: x\r\n", request_of(url, make_token("u"))
    ),
}


def reset(writer: asyncio.StreamWriter) -> None:
    """Leave with an RST, as a process that is killed or a NAT that has forgotten the connection."""
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "after the answer"])
@pytest.mark.parametrize("said", LEAVING.values(), ids=LEAVING)
async def test_a_client_that_leaves_during_the_handshake_is_no_error(
    node: Node,
    caplog: pytest.LogCaptureFixture,
    said: Callable[[str], bytes],
    *,
    at_once: bool,
) -> None:
    parts = urlsplit(node.url)
    for _ in range(10):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(said(node.url))
        if not at_once:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await reader.read(1)
        reset(writer)
    async with connected(node.url, make_token("v")):
        pass
    await until(lambda: not node.gateway.hub.connections)
    assert errors(caplog) == []


async def test_a_client_that_leaves_while_its_place_is_asked_for_is_no_error(
    start_node: StartNode, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start_node(max_connections_per_user=1)
    acquire = node.gateway.redis.places.acquire
    asked, go = asyncio.Event(), asyncio.Event()

    async def held(*how: Any) -> Any:
        asked.set()
        await go.wait()
        return await acquire(*how)

    async with connected(node.url, make_token("u")):
        monkeypatch.setattr(node.gateway.redis.places, "acquire", held)
        parts = urlsplit(node.url)
        _reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(request_of(node.url, make_token("u")))
        await asked.wait()
        reset(writer)
        go.set()
        await until(lambda: node.gateway.entrance.handshakes._admission._present == 1)
        await asyncio.sleep(0)
        assert not node.gateway.stats.connections_refused  # nobody is there to be told
    assert errors(caplog) == []


@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        ("https://class.school.example", True),
        ("https://APP.example:443", True),
        ("null", False),
        ("https://school.example.evil.example", False),
    ],
)
async def test_patterns_of_origins_hold_at_the_door(
    start_node: StartNode, origin: str, let_in: bool
) -> None:
    node = await start_node(allowed_origins=["https://*.school.example", "HTTPS://app.example/"])
    with contextlib.ExitStack() as stack:
        if not let_in:
            refused = stack.enter_context(pytest.raises(aiohttp.WSServerHandshakeError))
        async with connected(node.url, make_token("u"), origin=origin):
            pass
    if not let_in:
        assert refused.value.status == 403
