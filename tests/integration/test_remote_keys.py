"""Keys that an issuer publishes: tokens are judged by them through rotations and outages."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.web import remote_keys
from gateway.web.key_fetching import NoKeys, fetch
from tests.integration.conftest import StartNode
from tests.support import identity_provider
from tests.support.certificates import Authority, trusting
from tests.support.client import Client, connected, opened
from tests.support.event_stream import address, ask, say
from tests.support.identity_provider import TROUBLES, IdentityProvider
from tests.support.nodes import Node
from tests.support.requests import answer_to, handshake
from tests.support.served import served
from tests.support.tokens import make_token
from tests.support.waiting import until


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProvider]:
    """Publishes the key ``a``."""
    provider = IdentityProvider()
    provider.publish("a")
    async with provider.running():
        yield provider


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is not known is looked for again at once."""
    monkeypatch.setattr(remote_keys, "_HURRY_SECONDS", 0)


@pytest.fixture
def tries_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An issuer that does not answer is asked again sooner than after five seconds."""
    monkeypatch.setattr(remote_keys, "_FIRST_RETRY_SECONDS", 0.1)


def settings(idp: IdentityProvider, **more: Any) -> dict[str, Any]:
    given = {"jwt_jwks_url": idp.jwks_url, "jwt_issuer": idp.issuer, "jwt_audience": "us"}
    return {"jwt_secret": None, **given, **more}


async def is_refused(node: Node, token: str) -> str:
    """The code of the refusal."""
    async with opened(node.url, token) as client:
        error = await client.expect(type="error")
        assert await client.expect_close() == (1008, error["code"])
        return str(error["code"])


async def test_no_client_notices_that_keys_rotate_and_their_url_fails(
    start_node: StartNode, idp: IdentityProvider, in_a_hurry: None
) -> None:
    node = await start_node(**settings(idp))
    async with contextlib.AsyncExitStack() as stack:
        clients: list[Client] = []

        async def come(kid: str, count: int = 2) -> None:
            for _ in range(count):
                token = idp.token(kid, f"user-{len(clients)}")
                clients.append(await stack.enter_async_context(connected(node.url, token)))

        await come("a")
        idp.publish("a", "b")  # published before it is used
        await come("a")
        await come("b")
        await come("a")
        idp.publish("b", "c")  # the old one is withdrawn
        await come("c")
        await come("b")
        assert await is_refused(node, idp.token("a")) == "token_key_unknown"
        for trouble in TROUBLES:
            idp.trouble = trouble
            before = node.gateway.stats.jwks_refreshes["failed"]
            unknown = asyncio.ensure_future(is_refused(node, idp.token("d")))
            await come("b", 1)
            # It may be tried again, when the issuer answers.
            assert await unknown == "token_key_unknown"
            await until(lambda n=before: node.gateway.stats.jwks_refreshes["failed"] > n)
            await come("c", 1)
        idp.trouble = None
        idp.publish("c", "d")
        await come("d")
        assert len(clients) == 26
        for client in clients:
            await client.sync()
    _, readiness = await node.get("/readyz")
    assert json.loads(readiness)["checks"]["keys"]


async def test_a_crowd_with_a_new_key_makes_one_request(
    start_node: StartNode, idp: IdentityProvider, in_a_hurry: None
) -> None:
    node = await start_node(**settings(idp))
    idp.publish("b")
    before = len(idp.asked)

    async def come(number: int) -> None:
        async with connected(node.url, idp.token("b", f"user-{number}")) as client:
            await client.sync()

    await asyncio.gather(*(come(number) for number in range(50)))
    assert len(idp.asked) == before + 1


async def test_who_names_a_key_of_a_stranger_makes_no_request(
    start_node: StartNode, idp: IdentityProvider, in_a_hurry: None
) -> None:
    node = await start_node(**settings(idp))
    before = len(idp.asked)
    for token in (idp.token("b", iss="https://elsewhere.example"), idp.token("b", iss=None)):
        assert await is_refused(node, token) == "token_invalid"
    # A request that they had asked for would come now, or be the one for which the next token waits.
    (keys,) = node.gateway.entrance.keys.remote
    assert not keys._hurried
    assert await is_refused(node, idp.token("b")) == "token_key_unknown"
    assert len(idp.asked) == before + 1


async def test_who_makes_up_keys_is_answered_in_http_in_the_end_and_who_has_a_new_one_is_let_in(
    start_node: StartNode, idp: IdentityProvider, in_a_hurry: None
) -> None:
    node = await start_node(**settings(idp), failed_authentications_per_minute=5)
    for number in range(5):
        assert await is_refused(node, idp.token(f"made up {number}")) == "token_key_unknown"
    made_up = await answer_to(node.url, handshake(idp.token("made up")))
    assert (made_up.status, made_up.code) == (429, "too_many_failures")
    assert node.gateway.stats.addresses_blocked == 1
    # A user whose provider signs with a new key before it publishes it fares no worse than that for long.
    early = handshake(idp.token("b"))
    assert (await answer_to(node.url, early)).status == 429
    idp.publish("b")
    assert (await answer_to(node.url, early)).status == 101


async def test_who_has_no_websocket_may_show_a_token_of_a_new_key_too(
    start_node: StartNode, idp: IdentityProvider, in_a_hurry: None
) -> None:
    node = await start_node(**settings(idp))
    idp.publish("a", "b")
    first = await ask(node.url, address("/poll", idp.token("b", "u"), wait="0"))
    name, since = first.json[0]["poll"], first.json[-1]["since"]
    idp.publish("a", "b", "c")
    further = address("/poll", idp.token("c", "u"), wait="0", poll=name, since=since)
    again = await ask(node.url, further)
    assert (again.status, again.body) == (200, b"[]")
    idp.publish("a", "b", "c", "d")
    heartbeat = {"type": "heartbeat"}
    assert (await say(node.url, name, heartbeat, idp.token("d", "u"), "/poll")).status == 202
    refused = await say(node.url, name, heartbeat, idp.token("e", "u"), "/poll")
    assert (refused.status, refused.json["error"]["code"]) == (401, "token_key_unknown")


async def test_while_its_key_is_looked_for_a_client_counts_as_a_stranger(
    start_node: StartNode, idp: IdentityProvider, in_a_hurry: None
) -> None:
    node = await start_node(**settings(idp))
    idp.trouble = "hangs"
    refused = asyncio.ensure_future(is_refused(node, idp.token("b")))
    await until(lambda: "/jwks" in idp.asked[1:])
    assert len(node.new_connections) == 1
    assert await refused == "token_key_unknown"


async def test_a_client_that_leaves_while_its_key_is_looked_for_leaves_nothing_behind(
    start_node: StartNode, idp: IdentityProvider, in_a_hurry: None
) -> None:
    node = await start_node(**settings(idp))
    idp.trouble = "hangs"
    async with opened(node.url, idp.token("b")):
        await until(lambda: "/jwks" in idp.asked[1:])
    await until(lambda: not node.new_connections)
    assert not node.gateway.hub.connections


async def test_a_node_without_keys_is_not_ready_until_its_issuer_answers(
    start_node: StartNode, idp: IdentityProvider, tries_again_soon: None
) -> None:
    idp.trouble = "fails"
    starting = asyncio.ensure_future(start_node(**settings(idp, jwt_discovery=False)))
    await until(lambda: len(idp.asked) > 1)
    assert not starting.done()
    idp.trouble = None
    node = await starting
    async with connected(node.url, idp.token("a")) as client:
        await client.sync()
    assert 'gateway_jwks_refreshes_total{outcome="loaded"} 1.0' in (await node.get("/metrics"))[1]


async def test_an_issuer_that_does_not_answer_keeps_nobody_elses_users_out(
    start_node: StartNode, idp: IdentityProvider
) -> None:
    away = {"jwks_url": "http://127.0.0.1:1/jwks", "issuer": "https://away", "audience": "us"}
    node = await start_node(**settings(idp), jwt_keys=json.dumps([away]))
    async with connected(node.url, idp.token("a")) as client:
        await client.sync()
    assert await is_refused(node, idp.token("b", iss="https://away")) == "token_key_unknown"


async def test_keys_are_found_through_the_issuers_document(
    start_node: StartNode, idp: IdentityProvider
) -> None:
    idp.publish("a")
    node = await start_node(**settings(idp, jwt_jwks_url=None, jwt_discovery=True))
    assert idp.asked == [identity_provider.DISCOVERY, "/jwks"]
    async with connected(node.url, idp.token("a")) as client:
        await client.sync()


async def test_published_keys_and_a_secret_stand_side_by_side(
    start_node: StartNode, idp: IdentityProvider
) -> None:
    keys = [{"jwks_url": idp.jwks_url, "issuer": idp.issuer, "audience": "us"}]
    secret = "another secret, which is long enough as well"
    node = await start_node(jwt_secret=secret, jwt_keys=json.dumps(keys))

    async with connected(node.url, idp.token("a")) as client:
        await client.sync()
    assert await is_refused(node, make_token("ann")) == "token_invalid"


async def test_a_token_that_is_shown_on_an_open_connection_waits_for_its_key_too(
    start_node: StartNode, idp: IdentityProvider, in_a_hurry: None
) -> None:
    node = await start_node(**settings(idp))
    async with connected(node.url, idp.token("a", exp=2**31 - 1)) as client:
        idp.publish("a", "b")
        await client.send({"type": "refresh", "token": idp.token("b", exp=2**31)})
        (connection,) = node.gateway.hub.connections.values()
        await until(lambda: connection.identity.expires_at == 2**31 + 5)
        idp.trouble = "fails"
        await client.send({"type": "refresh", "token": idp.token("c")})
        await client.expect(type="error", code="token_key_unknown")
        # The old one stays in force.
        assert connection.identity.expires_at == 2**31 + 5
        assert connection.refreshing is None


# -- how they are fetched -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("hangs", "no answer in time"),
        ("fails", "status 500"),
        ("redirects", "a redirect to localhost, which is not followed"),
        ("never ends", "more than 1000 bytes"),
    ],
)
async def test_whatever_is_wrong_with_an_answer_is_told_without_its_url(
    idp: IdentityProvider, trouble: str, why: str
) -> None:
    idp.trouble = trouble
    with pytest.raises(NoKeys) as told:
        await fetch(f"{idp.jwks_url}?key=hidden", 1_000)
    assert str(told.value) == why
    assert len(idp.asked) == 1


async def test_nobody_there_and_no_http_are_told_too(idp: IdentityProvider) -> None:
    with pytest.raises(NoKeys, match=r"^no connection: "):
        await fetch("http://127.0.0.1:1/jwks", 1_000)

    async def speaks_ssh(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(speaks_ssh, "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NoKeys, match="cannot be read"):
            await fetch(f"http://127.0.0.1:{port}/jwks", 1_000)


async def test_what_is_compressed_is_not_inflated(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = gzip.compress(b" " * 10_000_000)

    async def is_compressed(request: web.Request) -> web.StreamResponse:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    monkeypatch.setitem(TROUBLES, "is compressed", is_compressed)
    idp.trouble = "is compressed"
    assert (await fetch(idp.jwks_url, 100_000)).body == packed


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("public, max-age=19204, must-revalidate, no-transform", 19_204),
        ("MAX-AGE=60", 60),
        ("s-maxage=60", None),
        ("max-age=soon", None),
        ("", None),
    ],
)
async def test_how_long_keys_may_be_kept_is_read(
    idp: IdentityProvider, header: str, seconds: float | None
) -> None:
    idp.headers = {"Cache-Control": header}
    assert (await fetch(idp.jwks_url, 100_000)).max_age == seconds


async def test_what_is_in_clear_text_passes_no_proxy(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await lines.put(await reader.readline())
        writer.close()

    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with await asyncio.start_server(refuses, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        await fetch(idp.jwks_url, 100_000)
        assert idp.asked == ["/jwks"]
        assert lines.empty()
        with pytest.raises(NoKeys):
            await fetch("https://login.example/jwks", 100_000)
        assert (await lines.get()).startswith(b"CONNECT login.example:443 ")


async def test_a_login_of_a_netrc_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority
) -> None:
    shown: list[str | None] = []

    async def asked(request: web.Request) -> web.StreamResponse:
        shown.append(request.headers.get("Authorization"))
        return web.json_response({})

    (tmp_path / "netrc").write_text("machine localhost login gateway password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting(authority))
    files = authority.sign("localhost")
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(files.certificate, files.key)
    app = web.Application()
    app.router.add_get("/jwks", asked)
    async with served(app, own) as port:
        assert (await fetch(f"https://localhost:{port}/jwks", 100)).body == b"{}"
    assert shown == [None]


async def test_no_cookie_comes_back(idp: IdentityProvider) -> None:
    idp.headers = {"Set-Cookie": "a=b"}
    for _ in range(2):
        await fetch(idp.jwks_url, 100_000)
