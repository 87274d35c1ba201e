"""``gateway tail``: its options, and what it prints."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import orjson

from gateway.client import Message, Receiver, ReceiverError, Subscription
from gateway.commands.output import Commands, complain, say
from gateway.settings import UsageError

_DESCRIPTION: Final = (
    "Show the messages of channels as they come, a line each, and connect again whenever the connection is lost. What is "
    "shown counts as received by the token's user. Ctrl-C ends it. Exit codes: 0 ended by you, 1 the client is not let in "
    "or a channel has ended, 2 a mistake in the command."
)
_TOKEN: Final = "GATEWAY_TOKEN"  # noqa: S105 - a variable's name


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "tail", help="show the messages of channels", description=_DESCRIPTION
    )
    parser.set_defaults(run=_run)
    parser.add_argument("channels", nargs="+", metavar="CHANNEL", help="what to listen to")
    parser.add_argument("--url", required=True, help="of the gateway: ws://… or wss://…")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"the user's token, read before each attempt to connect [{_TOKEN}: the token itself]",
    )
    parser.add_argument(
        "--since",
        type=int,
        metavar="ID",
        help="begin behind the message with this id; 0 for all that is kept (default: what the user has not received)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, an object a line")


def _run(options: argparse.Namespace) -> int:
    tail = _Tail(options.json)
    try:
        token = _token(options.token_file)
        receiver = Receiver(options.url, token=token, on_gap=tail.show_loss)
    except ValueError as error:
        raise UsageError(str(error)) from None
    _tell_of_lost_connections()
    channels = [*dict.fromkeys(options.channels)]
    failure = asyncio.run(_show(receiver, channels, options.since, tail))
    if isinstance(failure, BrokenPipeError):
        raise failure
    if failure is not None:
        complain(_as_text(failure))
    return 0 if failure is None else 1


def _token(file: Path | None) -> str | Callable[[], str]:
    if file is not None:
        read = partial(file.read_text, "utf-8-sig")
        try:
            read()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"--token-file {file}: {error}") from None
        return read
    if token := os.environ.get(_TOKEN):
        return token
    raise ValueError(f"give the user's token: --token-file FILE, or {_TOKEN}")


def _tell_of_lost_connections() -> None:
    """Whoever waits for messages wants to know when none can come."""
    log, handler = logging.getLogger("gateway.client"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("gateway: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def _as_text(failure: Exception) -> str:
    help_ = failure.help if isinstance(failure, ReceiverError) else None
    return f"{failure}" + (f" ({help_})" if help_ else "")


class _Tail:
    """Prints what comes, each line at once."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def show(self, message: Message) -> None:
        if self._as_json:
            line = orjson.dumps(message).decode()
        else:
            time = datetime.fromtimestamp(message.timestamp / 1000, UTC)
            shown = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            line = f"{shown} {message.channel} {orjson.dumps(message.data).decode()}"
        say(line)

    def show_loss(self, channel: str) -> None:
        if self._as_json:
            say(orjson.dumps({"channel": channel, "lost": True}).decode())
        else:
            complain(f"{channel}: messages are lost here")


async def _show(
    receiver: Receiver, channels: list[str], since: int | None, tail: _Tail
) -> Exception | None:
    """Show all channels until a signal, or until one of them ends; returns why, if it did."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    failure = None
    async with receiver:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(_show_one(receiver.subscribe(channel, since=since), tail))
                    for channel in channels
                ]
                await told.wait()
                for task in tasks:
                    task.cancel()
        except* (ReceiverError, BrokenPipeError) as errors:
            failure = errors.exceptions[0]
    return failure


async def _show_one(messages: Subscription, tail: _Tail) -> None:
    async for message in messages:
        tail.show(message)
