"""The commands of ``publisher`` that give and take access."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias

from publisher.cli_output import complain, print_result
from publisher.client import Publisher
from publisher.contract.grants import ASTERISK, EVERYBODY, Grantee
from publisher.errors import InvalidData
from publisher.operations import DEFAULT_GRANT_TTL_SECONDS
from publisher.records import seconds_since_1970

Command: TypeAlias = Callable[[Publisher, argparse.Namespace], int]
Add: TypeAlias = Callable[[str, Command, str], argparse.ArgumentParser]
"""Adds a command of this name, what it does, and what its help says."""


def add_commands(add: Add) -> None:
    """Add the commands to the parser."""
    _add_grants(
        add("grant", _grant, "Let a user subscribe to a channel"),
        add("revoke", _revoke, "Take a grant back and end what it allowed"),
    )
    forget = add("forget", _forget, "Erase what Redis keeps of a user, and end their connections")
    add_user(forget)
    _add_ends(
        add("disconnect", _disconnect, "End a user's connections"),
        add("revoke-token", _revoke_token, "Let nobody in with a token, and end its connections"),
        add(
            "revoke-tokens-before",
            _revoke_tokens_before,
            "Let a user in only with tokens that were issued later, and end the connections with older ones",
        ),
    )


def add_channel(parser: argparse.ArgumentParser) -> None:
    """Add the channel that a command is about."""
    parser.add_argument("channel", metavar="CHANNEL", help="its name, <namespace>/<id>")


def add_user(parser: argparse.ArgumentParser) -> None:
    """Add the user that a command is about."""
    parser.add_argument("user", metavar="USER", help="the user's id")


def _grant(publisher: Publisher, options: argparse.Namespace) -> int:
    if options.ttl < 0:
        raise InvalidData("--ttl must be a number of seconds, or 0 for ever")
    ttl = options.ttl or None
    publisher.grant(options.channel, grantee(options), ttl)
    print_result({"channel": options.channel, **_named(options), "ttl": ttl})
    return 0


def _revoke(publisher: Publisher, options: argparse.Namespace) -> int:
    revoked = publisher.revoke(options.channel, grantee(options))
    other_grant = "a grant of their own" if options.everybody else "a grant to everybody"
    note = (
        f"{other_grant}, a token whose claim channels names the channel, or a channel token still lets a user in; "
        "revoke-token and revoke-tokens-before take back tokens"
    )
    print_result({"channel": options.channel, **_named(options), "revoked": revoked, "note": note})
    return 0


def _disconnect(publisher: Publisher, options: argparse.Namespace) -> int:
    publisher.disconnect(options.user, reason=options.reason, connection=options.connection)
    print_result({"user": options.user, "connection": options.connection, "reason": options.reason})
    return 0


def _forget(publisher: Publisher, options: argparse.Namespace) -> int:
    publisher.forget(options.user)
    print_result({"user": options.user, "forgotten": True})
    return 0


def _revoke_token(publisher: Publisher, options: argparse.Namespace) -> int:
    until = moment("--until", options.until)
    publisher.revoke_token(options.jti, until)
    print_result({"jti": options.jti, "until": until})
    return 0


def _revoke_tokens_before(publisher: Publisher, options: argparse.Namespace) -> int:
    time = moment("TIME", options.time)
    publisher.revoke_tokens_before(options.user, time)
    print_result({"user": options.user, "before": time})
    return 0


def moment(name: str, given: str) -> float:
    """A moment as it is typed, in seconds since 1970.

    Raises:
        InvalidData: it is neither ISO 8601 nor a number of seconds.
    """
    with contextlib.suppress(ValueError):
        return seconds_since_1970(name, float(given))
    try:
        return seconds_since_1970(name, datetime.fromisoformat(given))
    except ValueError:
        raise InvalidData(
            f"{name} must be like 2026-01-31T12:00:00Z, or a number of seconds since 1970"
        ) from None


def grantee(options: argparse.Namespace) -> Grantee:
    """Whom a command names: a user, or everybody.

    Raises:
        InvalidData: both.
    """
    if options.everybody:
        if options.user is not None:
            raise InvalidData("give a user or --everybody, not both")
        return EVERYBODY
    if options.user == ASTERISK:
        complain("* is the user with this id; all users are --everybody")
    user: str = options.user
    return user


def _named(options: argparse.Namespace) -> dict[str, Any]:
    return {"everybody": True} if options.everybody else {"user": options.user}


class Everybody(argparse.Action):
    """``--everybody``, in the place of the argument ``instead_of``."""

    def __init__(self, instead_of: argparse.Action, **details: Any) -> None:
        super().__init__(nargs=0, default=False, **details)
        self._instead_of = instead_of

    def __call__(self, _parser: Any, namespace: argparse.Namespace, *_: Any) -> None:
        namespace.everybody = True
        self._instead_of.required = False


def _add_grants(grant: argparse.ArgumentParser, revoke: argparse.ArgumentParser) -> None:
    for parser in (grant, revoke):
        parser.usage = f"{parser.prog} [options] CHANNEL (USER | --everybody)"
        add_channel(parser)
        user = parser.add_argument(
            "user",
            metavar="USER or --everybody",  # argparse says what is missing by this name
            help="a user's id, whatever it is: * is the user with this id",
        )
        parser.add_argument(
            "--everybody",
            action=Everybody,
            instead_of=user,
            help="all users, in the place of USER",
        )
    grant.add_argument(
        "--ttl",
        metavar="SECONDS",
        type=int,
        default=DEFAULT_GRANT_TTL_SECONDS,
        help="seconds for which the grant holds; 0 for ever (default: 30 days)",
    )


def _add_ends(
    disconnect: argparse.ArgumentParser,
    revoke_token: argparse.ArgumentParser,
    revoke_tokens_before: argparse.ArgumentParser,
) -> None:
    add_user(disconnect)
    disconnect.add_argument(
        "--reason", metavar="TEXT", default="", help="what its clients are told"
    )
    disconnect.add_argument(
        "--connection",
        metavar="NODE/ID",
        help="only this one, as `publisher connections` lists it (default: all)",
    )
    revoke_token.add_argument("jti", metavar="JTI", help="the token's jti claim")
    revoke_token.add_argument(
        "--until", metavar="TIME", required=True, help=f"when the token ends by itself: {TIME}"
    )
    add_user(revoke_tokens_before)
    revoke_tokens_before.add_argument(
        "time", metavar="TIME", help=f"tokens issued before are revoked: {TIME}"
    )


TIME = "2026-01-31T12:00:00Z, or seconds since 1970"
