"""``gateway conformance``: its options, and how its result is told."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson

from gateway import serve
from gateway.commands import asking_redis
from gateway.commands.output import Commands, complain, say
from gateway.commands.token import SIGNING
from gateway.conformance.backend import ApiError, Backend, ByRedis, by_api
from gateway.conformance.opening import Address, address_of
from gateway.conformance.preconditions import Missing, look
from gateway.conformance.stage import REQUIREMENTS, Deployment
from gateway.conformance.suite import Result, run
from gateway.conformance.tokens import Signer
from gateway.development.login import signing_secret
from gateway.options import add_options, load_settings
from gateway.settings import Settings, UsageError
from publisher import AsyncPublisher
from publisher.errors import InvalidInput

_DESCRIPTION: Final = (
    "Check a running deployment, through all its proxies, against each MUST of the protocol that binds the server "
    "(docs/conformance.md). Messages are published through Redis, or with --api by the HTTP API; the tokens need the deployment's secret. "
    "Each check has a user of its own, whose name begins with conformance-, and erases it. "
    "Exit codes: 0 nothing has failed, 1 something has, or Redis or the API cannot be used, 2 a mistake in the command: nobody is at the "
    "URL, the token is refused, or another Redis is given than the gateway's; then nothing was checked."
)
_OF_DEPLOYMENT: Final = {
    "compression": "whether the deployment offers compression (default: it does)",
    "allowed_origins": "the origins that the deployment lists, if it does: then others must be refused",
}
"""What else of a deployment's settings is to be known, and what each is here."""

_SETTINGS: Final = (*asking_redis.SETTINGS, *SIGNING, *_OF_DEPLOYMENT)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "conformance", help="check a deployment against the protocol", description=_DESCRIPTION
    )
    parser.set_defaults(run=_run)
    parser.add_argument("--url", required=True, help="what clients connect to: ws://… or wss://…")
    parser.add_argument(
        "--api", metavar="URL", help="publish by the HTTP API at this URL instead of through Redis"
    )
    parser.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="a key of the API with the scopes publish, grant and disconnect",
    )
    parser.add_argument(
        "--jwt-secret-file",
        type=Path,
        metavar="FILE",
        help="the secret that signs tokens; without it that of GATEWAY_JWT_SECRET, or of `make run`",
    )
    parser.add_argument(
        "--slow", action="store_true", help="check too what takes minutes: pings and idle timeouts"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="ID",
        help="check this requirement, such as S-602; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, an object a line")
    add_options(parser, _SETTINGS, {**asking_redis.HELP, **SIGNING, **_OF_DEPLOYMENT})


def _run(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    if unknown := set(options.only) - REQUIREMENTS.keys():
        raise UsageError(f"--only {unknown.pop()}: docs/protocol.md has no such requirement")
    if (options.api is None) != (options.api_key_file is None):
        raise UsageError("--api and --api-key-file belong together")
    try:
        address = address_of(options.url)
        results = serve.run(_check(options, settings, address))
    except (ValueError, InvalidInput, Missing) as error:
        raise UsageError(str(error)) from None
    except ApiError as error:
        complain(str(error))
        return 1
    for each in results:
        say(orjson.dumps(asdict(each)).decode() if options.json else _as_text(each))
    counts = Counter(each.result for each in results)
    if not options.json:
        say(", ".join(f"{counts[name]} {name}" for name in ("passed", "failed", "skipped")))
    return 1 if counts["failed"] else 0


async def _check(options: argparse.Namespace, settings: Settings, address: Address) -> list[Result]:
    signer = _signer(options, settings)
    async with _backend(options, settings) as backend:
        deployment = Deployment(
            address,
            signer,
            backend,
            compresses=settings.compression,
            origins=settings.allowed_origins or (),
        )
        await look(deployment)
        return await run(deployment, slow=options.slow, only=options.only)


@asynccontextmanager
async def _backend(options: argparse.Namespace, settings: Settings) -> AsyncIterator[Backend]:
    if options.api is not None:
        async with by_api(options.api, _text_of(options.api_key_file, "--api-key-file")) as api:
            yield api
        return
    url = asking_redis.url_of(settings)
    async with AsyncPublisher.from_url(url, prefix=settings.redis_prefix) as publisher:
        await publisher.ping()
        yield ByRedis(publisher)


def _signer(options: argparse.Namespace, settings: Settings) -> Signer:
    if options.jwt_secret_file is not None:
        secret = _text_of(options.jwt_secret_file, "--jwt-secret-file")
    else:
        secret = signing_secret(settings)
    algorithm = settings.jwt_algorithms[0] if settings.jwt_algorithms else "HS256"
    claims = (("aud", settings.jwt_audience), ("iss", settings.jwt_issuer))
    given = tuple((name, value) for name, value in claims if value)
    return Signer(secret, algorithm, settings.jwt_user_claim, given)


def _text_of(file: Path, option: str) -> str:
    try:
        return file.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {file}: {error}") from None


def _as_text(result: Result) -> str:
    return f"{result.result:7}  {result.id}  {result.requirement}" + (
        f"\n         {result.detail}" if result.detail else ""
    )
