"""``gateway webhooks``: events go to a backend's URL until a signal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import time
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gateway import logs, redis_acl, serve
from gateway.commands import asking_redis
from gateway.commands.output import Commands
from gateway.options import add_options, load_settings
from gateway.settings import UsageError
from gateway.webhooks.delivery import Delivery, Gone, pause_after
from gateway.webhooks.receiver import BadURL, Receiver, check_url
from gateway.webhooks.signing import BadSecret, has_bare_text, secrets_of
from publisher import AsyncPublisher, Unavailable
from publisher.contract.secret_values import names_file, read_secret
from publisher.errors import InvalidData, InvalidInput

log = logging.getLogger("gateway.webhooks")

_DESCRIPTION: Final = (
    "Send the events that GATEWAY_EVENTS names to a URL, each in a signed request (standardwebhooks.com), until it has "
    "arrived. Redis is that of PUBLISHER_REDIS_URL, or else of GATEWAY_REDIS_URL, or else that of `make run`; the user of backends has "
    "the rights. "
    "Exit codes: 0 a signal has ended it, 1 Redis refuses, 2 the input is wrong, 3 the receiver wants no more (410)."
)

_GONE: Final = 3
"""Its own, so that a service manager does not ask again."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "webhooks", help="send events to a backend's URL", description=_DESCRIPTION
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "--url",
        required=True,
        help="where events are sent to: https, or http to this machine, or @FILE where the URL holds a secret; no redirect is followed",
    )
    parser.add_argument(
        "--secret-file",
        required=True,
        metavar="FILE",
        type=Path,
        help="secrets that sign the requests, one a line, such as whsec_<base64>",
    )
    parser.add_argument(
        "--group",
        default="webhooks",
        metavar="NAME",
        help="processes of the same name share the events (default: webhooks)",
    )
    parser.add_argument(
        "--start",
        choices=("new", "oldest"),
        default="new",
        help="where a group begins that is not there yet (default: new)",
    )
    add_options(parser, (*asking_redis.SETTINGS, "log_level", "log_format"), asking_redis.HELP)


def _run(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    logs.configure(settings.log_level, settings.log_format)
    receivers_url, secrets = _receivers_url(options.url), _secrets(options.secret_file)
    try:
        url = redis_acl.publishers_url() or asking_redis.url_of(settings)
        publisher = AsyncPublisher.from_url(url, prefix=settings.redis_prefix)
    except InvalidInput as error:
        raise UsageError(str(error)) from None
    try:
        return 0 if asyncio.run(_send(publisher, options, receivers_url, secrets)) else _GONE
    except Unavailable as error:
        log.error("webhooks_failed reason=%s", error.reason)  # noqa: TRY400 - a traceback says no more
        return 1


def _receivers_url(given: str) -> str:
    """The URL that ``--url`` stands for.

    Raises:
        UsageError: events may not be sent to it.
    """
    try:
        url = read_secret(given)
        check_url(url, hidden=names_file(given))
    except (BadURL, InvalidData) as error:
        raise UsageError(f"--url: {error}") from None
    return url


def _secrets(file: Path) -> list[bytes]:
    """The secrets to sign with.

    Raises:
        UsageError: the file has none.
    """
    try:
        text = file.read_text("utf-8")
        secrets = secrets_of(text)
    except UnicodeDecodeError:
        raise UsageError("--secret-file: it is no text") from None
    except OSError as error:
        raise UsageError(f"--secret-file: {error.strerror}") from None
    except BadSecret as error:
        raise UsageError(f"--secret-file: {error}") from None
    if has_bare_text(text):
        log.warning(
            "webhook_secret_is_text reason=%r",
            "a secret does not begin with whsec_: libraries of Standard Webhooks take it for base64, and refuse the signature",
        )
    return secrets


async def _send(
    publisher: AsyncPublisher, options: argparse.Namespace, url: str, secrets: list[bytes]
) -> bool:
    """Send events until a signal; ``False`` when the receiver wants no more.

    Raises:
        publisher.errors.Rejected: Redis does not accept the commands.
    """
    told = asyncio.Event()
    serve.on_signals(told)
    async with publisher, contextlib.aclosing(Receiver(url, secrets)) as receiver:
        events = publisher.events(options.group, options.start)
        delivery = Delivery(
            events, receiver, partial(pause_after, random=random.random), time.monotonic
        )
        sending = asyncio.create_task(delivery.run(), name="webhooks")
        ending = asyncio.create_task(told.wait(), name="wait for a signal")
        log.info("webhooks_started group=%s", options.group)
        await asyncio.wait([sending, ending], return_when=asyncio.FIRST_COMPLETED)
        for task in (sending, ending):
            task.cancel()
        try:
            await sending
        except Gone:
            # The rest of the URL may hold a secret.
            log.error("webhook_gone host=%s", urlsplit(url).hostname)  # noqa: TRY400 - it is the receiver's answer
            return False
        except asyncio.CancelledError:
            log.info("webhooks_stopped group=%s", options.group)
        return True
