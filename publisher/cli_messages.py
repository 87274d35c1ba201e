"""The commands of ``publisher`` about messages, and what is given to a publish besides its channel."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import Any

import orjson

from publisher.cli_access import TIME, Add, add_channel
from publisher.cli_output import complain, print_result
from publisher.client import Publisher
from publisher.errors import InvalidData, PublisherError
from publisher.records import Published


def add_commands(add: Add) -> None:
    """Add the commands to the parser."""
    _add_broadcast(add("broadcast", _broadcast, "Publish the same JSON to many channels or users"))
    _add_message(add("delete", _delete, "Take a message out of its channel"))
    cancel = add("cancel", _cancel, "Take back a message that is to be published later")
    cancel.add_argument("id", metavar="ID", help="as `publisher publish --at` has printed it")
    _add_receipts(add("receipts", _receipts, "Print who has confirmed a message"))


def add_publishing(parser: argparse.ArgumentParser) -> None:
    """Add what may be asked of a publish."""
    parser.add_argument(
        "--collapse-key",
        metavar="KEY",
        help="take the message before it that has the same key out of the channel",
    )
    parser.add_argument(
        "--ttl", metavar="SECONDS", type=int, help="send it to nobody after so many seconds"
    )
    parser.add_argument(
        "--traceparent",
        metavar="TEXT",
        help="W3C traceparent: the span of a trace that it belongs to",
    )
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--at", metavar="TIME", help=f"publish it then: {TIME}")
    when.add_argument(
        "--wait-confirmed",
        metavar="SECONDS",
        type=float,
        help="wait so long until a user has received it, and print who has",
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add what is published."""
    parser.add_argument(
        "json", metavar="JSON", help="the message's data; - reads it from standard input"
    )


def data_of(options: argparse.Namespace) -> Any:
    """What is published.

    Raises:
        InvalidData: it is no JSON.
    """
    text = sys.stdin.buffer.read() if options.json == "-" else options.json
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidData(f"this is not JSON: {error}") from None


def print_published(published: Published) -> None:
    """Write what became of a publish; who has confirmed it where that was asked for."""
    result = asdict(published)
    if published.confirmed is None:
        del result["confirmed"]
    print_result(result)


def _broadcast(publisher: Publisher, options: argparse.Namespace) -> int:
    outcomes = publisher.broadcast(
        data_of(options),
        channels=options.channel,
        users=options.user,
        idempotency_key=options.idempotency_key,
    )
    errors = [each for each in outcomes if isinstance(each, PublisherError)]
    for each in outcomes:
        if isinstance(each, Published):
            print_published(each)
    for error in errors[:-1]:
        complain(str(error))
    if errors:
        raise errors[-1]
    return 0


def _add_broadcast(parser: argparse.ArgumentParser) -> None:
    add_data(parser)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument(
        "--user",
        metavar="USER",
        action="append",
        help="to this user's notifications; may be repeated",
    )
    group.add_argument(
        "--channel", metavar="CHANNEL", action="append", help="to this channel; may be repeated"
    )
    parser.add_argument(
        "--idempotency-key",
        metavar="KEY",
        help="with the same key each channel gets the message only once",
    )


def _delete(publisher: Publisher, options: argparse.Namespace) -> int:
    deleted = publisher.delete(options.channel, options.id)
    print_result({"channel": options.channel, "id": options.id, "deleted": deleted})
    return 0


def _cancel(publisher: Publisher, options: argparse.Namespace) -> int:
    print_result({"id": options.id, "cancelled": publisher.cancel(options.id)})
    return 0


def _receipts(publisher: Publisher, options: argparse.Namespace) -> int:
    for receipt in publisher.receipts(
        options.channel, options.id, after=options.after, limit=options.limit
    ):
        print_result(receipt)
    return 0


def _add_receipts(parser: argparse.ArgumentParser) -> None:
    _add_message(parser)
    parser.add_argument(
        "--after",
        metavar="USER",
        default="",
        help="go on behind the last receipt that was printed: its user; ID is then its up_to",
    )
    parser.add_argument(
        "--limit", metavar="N", type=int, help="at most this many receipts (default: all)"
    )


def _add_message(parser: argparse.ArgumentParser) -> None:
    add_channel(parser)
    parser.add_argument("id", metavar="ID", type=int, help="the message's id")
