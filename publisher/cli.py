"""The ``publisher`` command.

Results are JSON on standard output, one object a line; an error is one line on standard error. Exit
codes: docs/command-line.md. ``run`` exits with its command's code, and with another one only if the
command succeeded and its result could not be published.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from publisher import cli_access, cli_messages, completion, redis_address
from publisher import run_command as execution
from publisher.cli_access import Command, Everybody, add_channel, add_user, grantee, moment
from publisher.cli_output import complain, print_result
from publisher.client import Publisher
from publisher.command_line import EPILOG, FAILED, WRONG, Parser, ended, unrecognized
from publisher.contract.channels import parse_channel
from publisher.contract.keys import DEFAULT_PREFIX
from publisher.contract.sealing import KeyRing
from publisher.errors import (
    InvalidInput,
    NotReplicated,
    PublisherError,
    Rejected,
    Unavailable,
)
from publisher.publication import DEFAULT_MAX_MESSAGE_BYTES
from publisher.records import channel_of_session, check_grantee

# What a run result's JSON takes besides its two texts, and a little more.
_RESULT_FRAME_BYTES: Final = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # Defaults are given here because the options' own would overwrite those before the command.
    options = argparse.Namespace(
        redis_url=None, prefix=None, actor=None, exit_code=0, min_replicas=0, replica_timeout=1.0
    )
    code = ended(lambda: _run_command(_parsed(arguments, options)))
    # What `run` ran may have failed by itself, and that is the more telling code.
    return options.exit_code or code


def _run_command(options: argparse.Namespace) -> int:
    try:
        return _completion(options) if options.command is None else _execute(options)
    except PublisherError as error:
        complain("; ".join([str(error).rstrip("."), *getattr(error, "__notes__", [])]))
        return WRONG if isinstance(error, InvalidInput) else FAILED


def _parsed(arguments: Sequence[str] | None, defaults: argparse.Namespace) -> argparse.Namespace:
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments, defaults)
    if unknown:
        told = unrecognized(unknown)
        if options.command is _run:
            told += f"; put -- before the command: publisher run … -- {options.program[0]} …"
        parser.error(told)
    return options


def _execute(options: argparse.Namespace) -> int:
    address = redis_address.find_redis(options.redis_url, os.environ, Path.cwd())
    prefix = options.prefix or os.environ.get(redis_address.PREFIX_VARIABLE) or DEFAULT_PREFIX
    command: Command = options.command
    with Publisher.from_url(
        address.url,
        prefix=prefix,
        min_replicas=options.min_replicas,
        replica_timeout=options.replica_timeout,
        encryption_keys=redis_address.encryption_keys(os.environ),
        actor=options.actor or os.environ.get(redis_address.ACTOR_VARIABLE) or None,
    ) as publisher:
        try:
            return command(publisher, options)
        except Unavailable as error:
            if address.file is not None:
                error.add_note(f"the address is from {address.file}")
                if not isinstance(error, Rejected | NotReplicated):  # these are answers of Redis
                    error.add_note("is `make run` running there?")
            raise


def _publish(publisher: Publisher, options: argparse.Namespace) -> int:
    data = cli_messages.data_of(options)
    asked = {
        "idempotency_key": options.idempotency_key,
        "collapse_key": options.collapse_key,
        "ttl": options.ttl,
        "traceparent": options.traceparent,
    }
    if options.at is not None:
        at = moment("--at", options.at)
        print_result(publisher.publish(options.channel, data, at=at, **asked))
        return 0
    published = publisher.publish(
        options.channel, data, wait_confirmed=options.wait_confirmed, **asked
    )
    cli_messages.print_published(published)
    return 0


def _notify(publisher: Publisher, options: argparse.Namespace) -> int:
    cli_messages.print_published(
        publisher.notify(
            options.user,
            title=options.title,
            message=options.message,
            action=options.action,
            request_id=options.request_id,
            idempotency_key=options.idempotency_key,
        )
    )
    return 0


def _run(publisher: Publisher, options: argparse.Namespace) -> int:
    # A mistake in a name must not cost a run.
    channel = channel_of_session(options.session)
    parse_channel(channel)
    user = grantee(options) if options.everybody or options.user is not None else None
    if user is not None:
        check_grantee(user)
        # Who subscribes while the program runs must be let in; granted again with the result.
        with contextlib.suppress(Unavailable):
            publisher.grant(channel, user)
    ended = execution.run(options.program, DEFAULT_MAX_MESSAGE_BYTES)
    stdout, stderr = ended.texts(DEFAULT_MAX_MESSAGE_BYTES - _RESULT_FRAME_BYTES)
    options.exit_code = ended.exit_code
    cli_messages.print_published(
        publisher.run_result(
            options.session,
            stdout=stdout,
            stderr=stderr,
            exit_code=ended.exit_code,
            duration=ended.duration,
            user=user,
        )
    )
    return ended.exit_code


def _history(publisher: Publisher, options: argparse.Namespace) -> int:
    for entry in publisher.history(options.channel, options.since, options.limit):
        print_result(entry)
    return 0


def _connections(publisher: Publisher, options: argparse.Namespace) -> int:
    for connection in publisher.connections(options.user):
        print_result(connection)
    return 0


def _presence(publisher: Publisher, options: argparse.Namespace) -> int:
    for user in publisher.presence(options.channel):
        print_result({"user": user})
    return 0


def _events(publisher: Publisher, options: argparse.Namespace) -> int:
    for event in publisher.events(options.group, options.start):
        # Asking for the next one acknowledges it.
        print_result(event.plain(), at_once=True)
    return 0


def _ping(publisher: Publisher, _options: argparse.Namespace) -> int:
    began = time.monotonic()
    publisher.ping()
    result: dict[str, object] = {
        "ok": True,
        "milliseconds": round((time.monotonic() - began) * 1000, 1),
    }
    if ring := KeyRing.of(redis_address.encryption_keys(os.environ)):
        result["encryption_keys"] = ring.names
    print_result(result)
    return 0


def _completion(options: argparse.Namespace) -> int:
    try:
        print(completion.script(_parser(), options.shell))  # noqa: T201
    except completion.NoShtab as error:
        complain(str(error))
        return WRONG
    return 0


def _parser() -> argparse.ArgumentParser:
    # Without a default of their own, these may stand before the command and after it.
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--redis-url",
        metavar="URL",
        help=f"URL of Redis (default: ${redis_address.URL_VARIABLE}, or else the Redis of `make run`)",
    )
    common.add_argument(
        "--prefix",
        help=f"key prefix of the gateways (default: ${redis_address.PREFIX_VARIABLE}, or else {DEFAULT_PREFIX})",
    )
    common.add_argument(
        "--actor",
        help=f"on whose behalf access is given and taken (default: ${redis_address.ACTOR_VARIABLE})",
    )
    common.add_argument(
        "--json",
        dest="as_json",  # `json` is what is published
        action="store_true",
        help="changes nothing: all results are JSON, one a line",
    )
    parser = Parser(
        "publisher",
        description="Publish to users' browsers and apps.",
        parents=[common],
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=version("realtime-gateway"))
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        about = text[0].lower() + text[1:].partition(". ")[0]
        added = commands.add_parser(name, help=about, description=f"{text}.", parents=[common])
        added.set_defaults(command=command)
        return added

    _add_publish(add("publish", _publish, "Publish JSON to a channel"))
    _add_notify(add("notify", _notify, "Send a notification to a user"))
    _add_run(
        add("run", _run, "Run a command and publish its result. It exits with the command's code")
    )
    cli_access.add_commands(add)
    cli_messages.add_commands(add)
    _add_reading(
        add("history", _history, "Print a channel's retained messages, oldest first"),
        add("connections", _connections, "Print a user's live connections"),
        add("presence", _presence, "Print the users who are in a channel"),
    )
    _add_events(
        add(
            "events",
            _events,
            "Print what happens to users and their connections. The gateways tell what GATEWAY_EVENTS names. Ctrl-C ends it",
        )
    )
    add("ping", _ping, "Ask Redis for an answer, to try the address, the password and the database")
    shells = commands.add_parser(
        "completion",
        help="print a script that lets a shell complete commands",
        description=completion.DESCRIPTION,
    )
    shells.set_defaults(command=None)  # the only one that asks nothing of Redis
    shells.add_argument("shell", choices=completion.SHELLS, help="the shell that you use")
    return parser


def _add_publish(parser: argparse.ArgumentParser) -> None:
    add_channel(parser)
    cli_messages.add_data(parser)
    cli_messages.add_publishing(parser)
    _add_idempotency_key(parser)
    _add_replicas(parser)


def _add_notify(parser: argparse.ArgumentParser) -> None:
    add_user(parser)
    parser.add_argument("--title", metavar="TEXT", required=True, help="what it is about")
    parser.add_argument("--message", metavar="TEXT", required=True, help="what it says")
    parser.add_argument(
        "--action", metavar="NAME", help="an action that the app may offer, such as approve_request"
    )
    parser.add_argument("--request-id", metavar="ID", help="what the action is about")
    _add_idempotency_key(parser)
    _add_replicas(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.usage = "publisher run [options] --session ID [--user ID | --everybody] -- COMMAND..."
    parser.add_argument("--session", metavar="ID", required=True, help="publish to run-results/ID")
    user = parser.add_argument("--user", metavar="ID", help="grant the session to this user")
    parser.add_argument(
        "--everybody", action=Everybody, instead_of=user, help="grant the session to all users"
    )
    parser.add_argument("program", metavar="COMMAND", nargs="+", help="what to run, after --")
    _add_replicas(parser)


def _add_reading(
    history: argparse.ArgumentParser,
    connections: argparse.ArgumentParser,
    presence: argparse.ArgumentParser,
) -> None:
    add_channel(history)
    history.add_argument(
        "--since", metavar="ID", type=int, default=0, help="only messages after this id"
    )
    history.add_argument(
        "--limit", metavar="N", type=int, help="at most this many messages (default: all)"
    )
    add_user(connections)
    add_channel(presence)


def _add_events(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--group",
        metavar="NAME",
        required=True,
        help="those who read with the same name share the events",
    )
    parser.add_argument(
        "--start",
        choices=("new", "oldest"),
        default="new",
        help="where a group begins that is not there yet (default: new)",
    )


def _add_replicas(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--min-replicas",
        metavar="N",
        type=int,
        default=0,
        help="fail unless this many replicas of Redis confirm the message (default: 0)",
    )
    parser.add_argument(
        "--replica-timeout",
        metavar="SECONDS",
        type=float,
        default=1.0,
        help="seconds that the replicas may take (default: 1)",
    )


def _add_idempotency_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--idempotency-key",
        metavar="KEY",
        help="with the same key the message is published only once",
    )
