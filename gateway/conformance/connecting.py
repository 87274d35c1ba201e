"""Checks of the sections "Connecting" and "Compression"."""

from __future__ import annotations

from gateway.conformance.stage import OFFER, Stage, check
from gateway.conformance.verdicts import Skipped, expect


@check("S-101", "a WebSocket handshake is accepted, at the path and at /ws behind it")
async def handshake(stage: Stage) -> None:
    """HTTP/1.1 101 at both paths, with a query or without."""
    address = stage.deployment.address
    for each in {address.path, address.base + "/ws"}:
        for query in ("", "conformance=1"):
            opening = await stage.ask(path=each, query=query)
            opening.writer.transport.abort()
            expect(opening.status == 101, f"{each} is answered with {opening.told()}")
            expect(
                opening.protocol == "HTTP/1.1",
                f"the answer is {opening.protocol}: a proxy speaks another version of HTTP",
            )


@check("S-102", "the token is taken from the query")
async def token_in_query(stage: Stage) -> None:
    """``?token=``."""
    await stage.connect("", query=f"token={stage.signer.token(stage.user)}")


@check("S-103", "the token is taken from the header Authorization")
async def token_in_header(stage: Stage) -> None:
    """``Authorization: Bearer``."""
    await stage.connect()


@check(
    "S-104", "the token is taken from a subprotocol, realtime is selected, the token not sent back"
)
async def token_in_subprotocol(stage: Stage) -> None:
    """``Sec-WebSocket-Protocol``, which proxies strip."""
    token = stage.signer.token(stage.user)
    line = await stage.connect(
        "", headers=(("Sec-WebSocket-Protocol", f"realtime, bearer.{token}"),)
    )
    selected = line.opening.fields.get("sec-websocket-protocol", "")
    expect(token not in str(line.opening.fields), "the answer holds the token")
    expect(
        selected == "realtime",
        f"the answer selects {selected!r}, so browsers give up: a proxy has removed Sec-WebSocket-Protocol",
    )


@check("S-105", "a head of 14,000 bytes with lines of 8,000 is accepted")
async def long_head(stage: Stage) -> None:
    """Long tokens, which some proxies refuse with 400, 414, 431 or 494."""
    token = stage.signer.token(stage.user, padding="x" * 5_000)
    padding = "x" * (7_900 - len(token))
    await stage.connect(token, headers=(("X-Padding", padding), ("X-More", "x" * 5_000)))


async def plain_request(stage: Stage) -> tuple[int, str, str]:
    """Status, code and help of the answer to a plain GET."""
    opening = await stage.ask("", version="")
    if opening.status == 200 and "html" in opening.fields.get("content-type", ""):
        raise Skipped("a page is served at this path, as in development mode")
    error = opening.error
    return opening.status, str(error.get("code", "")), str(error.get("help", ""))


@check("S-106", "a request that is no handshake is answered with 426 upgrade_required")
async def no_handshake(stage: Stage) -> None:
    """A plain GET."""
    status, code, _ = await plain_request(stage)
    expect((status, code) == (426, "upgrade_required"), f"the answer is HTTP {status} {code}")


@check("S-107", "another version than 13 is answered with 426 and the version")
async def other_version(stage: Stage) -> None:
    """RFC 6455 §4.2.2."""
    opening = await stage.ask(version="12")
    expect(
        (opening.status, opening.error.get("code")) == (426, "version_required"),
        f"the answer is {opening.told()}",
    )
    version = opening.fields.get("sec-websocket-version")
    expect(version == "13", f"the answer names version {version}: a proxy has removed it")


@check("S-108", "a refusal in HTTP has a body in JSON with code, message and help")
async def refusal_body(stage: Stage) -> None:
    """Proxies put pages of their own in its place."""
    opening = await stage.ask(version="12")
    error = opening.error
    expect(
        isinstance(error.get("message"), str)
        and error.get("help") == f"docs/errors.md#{error.get('code')}",
        "the body of the refusal is not the gateway's: a proxy has replaced it",
    )


@check("S-109", "a bad token is refused after the upgrade, with an error and close 1008")
async def refused_after_upgrade(stage: Stage) -> None:
    """What a browser sees."""
    line = await stage.open("not-a-token")
    error = await line.next("error")
    end = await line.end()
    expect(
        (end.code, end.reason) == (1008, error.get("code")),
        f"the error says {error.get('code')}, the close {end}"
        + (": a proxy has swallowed the close frame" if end.code == 1006 else ""),
    )


@check("S-110", "no more connections of a user than the limit are held, over all nodes")
async def connection_limit(stage: Stage) -> None:
    """Opens up to eleven; only whether and how one ends is looked at."""
    lines = []
    for _ in range(11):
        line = await stage.open()
        lines.append(line)
        message = await line.receive()
        if message["type"] == "error":
            end = await line.end()
            expect(
                message.get("code") == end.reason == "connection_limit",
                f"the connection above the limit ends with {message.get('code')}, {end}",
            )
            return
        if (replaced := next((each for each in lines if each.ended.done()), None)) is not None:
            end = await replaced.end()
            expect(end.reason == "replaced", f"a connection has ended with {end}")
            return
    raise Skipped("ten connections of a user are open: the limit is higher here")


@check("S-111", "a handshake from a page that is not listed is answered with 403")
async def foreign_origin(stage: Stage) -> None:
    """Where nobody has listed origins there is nothing to tell."""
    if not stage.deployment.origins:
        raise Skipped("no origins are listed, or --allowed-origins does not name them")
    opening = await stage.ask(headers=(("Origin", "https://conformance.invalid"),))
    opening.writer.transport.abort()
    expect(
        (opening.status, opening.error.get("code")) == (403, "origin_not_allowed"),
        f"the answer is {opening.told()}"
        + (": is a list set, and does a proxy remove Origin?" if opening.status == 101 else ""),
    )


@check("S-112", "who cannot be served for now is answered with 503 and Retry-After")
async def sent_away(stage: Stage) -> None:
    """All 503 of this run, from gateways and from proxies. It comes last, and nothing is overloaded to see one."""
    answers = stage.deployment.visitors.sent_away
    if not answers:
        raise Skipped("nothing was answered with 503 in this run")
    without = [each.told() for each in answers if "retry-after" not in each.fields]
    expect(not without, f"answers have no Retry-After: {', '.join(sorted({*without}))}")


@check("S-113", "a valid token is let in however many bad ones came from the same address")
async def valid_among_bad(stage: Stage) -> None:
    """A few bad ones: more would count against whoever shares the address."""
    for _ in range(3):
        opening = await stage.ask("not-a-token")
        opening.writer.transport.abort()
    await stage.connect()


def _compression_is_on(stage: Stage) -> None:
    if not stage.deployment.compresses:
        raise Skipped("compression is switched off (--no-compression)")


@check("S-121", "permessage-deflate is agreed on")
async def compression(stage: Stage) -> None:
    """Agreed on, used for a large message, and inflated to what was published."""
    _compression_is_on(stage)
    line = await stage.listen(headers=(("Sec-WebSocket-Extensions", OFFER),))
    expect(
        "permessage-deflate" in line.opening.fields.get("sec-websocket-extensions", ""),
        "the answer agrees on no compression: a proxy removes Sec-WebSocket-Extensions, "
        "or GATEWAY_COMPRESSION=false, then say --no-compression",
    )
    data = {"text": "compress me " * 2_000}
    message = await stage.data(line, await stage.publish(data))
    expect(message["data"] == data, "a compressed message is not what was published")
    expect(line.compressed, "a message of 24 KB came uncompressed")


@check("S-122", "the answer names both no_context_takeover")
async def context_takeover(stage: Stage) -> None:
    """RFC 7692 §7.1.1."""
    _compression_is_on(stage)
    opening = await stage.ask(headers=(("Sec-WebSocket-Extensions", "permessage-deflate"),))
    opening.writer.transport.abort()
    answer = opening.fields.get("sec-websocket-extensions", "")
    for name in ("server_no_context_takeover", "client_no_context_takeover"):
        expect(name in answer, f"the answer is {answer!r}, without {name}")


@check("S-123", "nothing is compressed for a client that has not offered it")
async def no_compression_unasked(stage: Stage) -> None:
    """A proxy may add an offer of its own."""
    line = await stage.listen()
    answer = line.opening.fields.get("sec-websocket-extensions", "")
    expect(not answer, f"the answer names {answer!r}, which was not offered")
    await stage.data(line, await stage.publish({"text": "compress me " * 2_000}))
    expect(not line.broken, "; ".join(line.broken))
