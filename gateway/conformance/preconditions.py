"""What all checks rest on: a gateway is at the URL, takes the token, and hears what is published here.

Where one of these is missing each check would fail, and it would look as if the gateway did not keep to the protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import replace
from typing import Final

from gateway.conformance.line import Line
from gateway.conformance.opening import SECONDS, Address, Opening
from gateway.conformance.stage import TOO_MANY_FAILURES, Deployment, Stage, Visitors
from gateway.conformance.verdicts import Failed, Skipped

_CLOCK: Final = "the clock of this machine and the gateway's differ"
_TOKEN_REFUSED: Final = {
    "token_invalid": "--jwt-secret-file or GATEWAY_JWT_SECRET must be the secret of the gateways; where they have "
    "GATEWAY_JWT_AUDIENCE, GATEWAY_JWT_ISSUER, GATEWAY_JWT_ALGORITHMS or GATEWAY_JWT_USER_CLAIM, give the same here; "
    "the gateway's log names the cause",
    "token_key_unknown": "the gateways know no such key: give --jwt-secret-file or GATEWAY_JWT_SECRET one that they have",
    "token_expired": _CLOCK,
    "token_not_yet_valid": _CLOCK,
    "too_many_failures": TOO_MANY_FAILURES,
}
"""What to do, by the code of the refusal. Others, such as a token that a proxy has removed, are for the checks to find."""


class Missing(Exception):
    """One of them is; the message says what to do."""


async def look(deployment: Deployment) -> None:
    """See that the checks can begin. What is wrong besides they find by themselves.

    Raises:
        Missing: they cannot.
        PublisherError: Redis is away or refuses.
        ApiError: the HTTP API does.
    """
    visitors = deployment.visitors
    # Its connections are none of those that checks look at; its user is erased with theirs.
    own = replace(deployment, visitors=Visitors(visitors.name, visitors.users))
    stage = Stage(own, "preconditions")
    try:
        await _see_that_somebody_is_there(own.address)
        opening = await _answer_of_a_gateway(stage)
        with contextlib.suppress(Failed, Skipped):
            line = await _let_in(stage, opening)
            await stage.subscribe(line, stage.own)
            await _see_that_it_hears(stage, line)
    finally:
        await stage.leave()


async def _see_that_somebody_is_there(address: Address) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(address.host, address.port, ssl=address.tls)
    except ssl.SSLCertVerificationError as error:
        raise Missing(
            f"--url: the certificate of {address.authority} is not trusted: {error.verify_message}; "
            "SSL_CERT_FILE names a file with whom to trust"
        ) from None
    except ssl.SSLError as error:
        raise Missing(
            f"--url: {address.authority} does not speak TLS ({error.reason}): is it ws://?"
        ) from None
    except OSError as error:
        raise Missing(
            f"--url: nobody is at {address.authority}: {str(error) or 'no answer'}"
        ) from None
    writer.transport.abort()


async def _answer_of_a_gateway(stage: Stage) -> Opening | None:
    """What the handshake with a good token is answered with; ``None`` where WebSockets do not get through, but a gateway is there."""
    address = stage.deployment.address
    where = f"{address.authority}{address.path}"
    try:
        opening = await stage.ask()
        told = f"answers with {opening.told()}"
    except Failed as error:
        opening, told = None, f"is no gateway's: {error}"
    if opening is not None and opening.error.get("code") == "not_found":
        raise Missing(
            f"--url: the gateway at {address.authority} takes no WebSocket at the path {address.path}: give that of GATEWAY_PATH"
        )
    if opening is not None and (opening.status == 101 or opening.error):
        return opening
    with contextlib.suppress(Failed):
        if (await stage.http.ask("GET", "/poll")).error:
            return None
    raise Missing(
        f"--url: {where} {told}: is this the URL of the gateway, and does it run behind the proxy?"
    )


async def _let_in(stage: Stage, opening: Opening | None) -> Line:
    if opening is None:
        raise Failed("no WebSocket")
    code = opening.error.get("code")
    if opening.status == 101:
        line = stage.take(opening)
        message = await line.receive()
        if message["type"] == "connected":
            return line
        code = message.get("code")
    if code in _TOKEN_REFUSED:
        raise Missing(f"the gateway refuses the token ({code}): {_TOKEN_REFUSED[code]}")
    raise Failed("not let in")


async def _see_that_it_hears(stage: Stage, line: Line) -> None:
    await stage.publish("is this what the gateway listens to?")
    try:
        # Which one it is, and how it is written, the checks look at.
        await line.next("notifications", "run-results")
    except Failed:
        if line.ended.done():
            return  # and at what ends a connection
        await stage.deployment.forget_users()  # no check follows that does
        raise Missing(
            f"the gateway at --url does not pass on what is published here: {stage.deployment.backend.advice}"
        ) from None
