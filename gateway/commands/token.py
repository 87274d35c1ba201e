"""``gateway token``: a token to try a gateway out."""

from __future__ import annotations

import argparse
from typing import Final

from gateway.commands.output import Commands, say, say_json
from gateway.development.login import make_token, signing_secret
from gateway.options import add_options, load_settings
from gateway.settings import UsageError
from publisher.contract.channels import NOTIFICATIONS, parse_channel
from publisher.errors import InvalidChannel

SIGNING: Final = {
    "jwt_secret": "HMAC secret that signs the token, as the gateways have it, or @FILE",
    "jwt_algorithms": "algorithm that signs it (default: HS256)",
    "jwt_user_claim": "claim that holds the user's id (default: sub)",
    "jwt_audience": "audience that it is for (aud), where the gateways want one",
    "jwt_issuer": "who issues it (iss), where the gateways want to know",
    "data_folder": "folder in which `make run` keeps its secret (default: .gateway)",
}
"""The settings that say how a token is made, and what they are here. All commands take the others too: they read the same file and environment."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "token",
        help="make a token for a user",
        description="Make a token for a user, to try a gateway out. It is signed with GATEWAY_JWT_SECRET, or else "
        "with the secret that `make run` has made in this folder.",
    )
    parser.set_defaults(run=_run)
    parser.add_argument("--user", required=True, metavar="ID", help="the user whom the token names")
    parser.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="NAME",
        help="a channel that the token allows, exact or <namespace>/*; may be repeated",
    )
    parser.add_argument(
        "--ttl",
        type=int,
        default=3600,
        metavar="SECONDS",
        help="how long it is valid (default: 3600)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_options(parser, SIGNING, SIGNING)


def _run(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    if options.ttl < 1:
        raise UsageError("--ttl must be a positive number of seconds")
    _check_names(options)
    secret = signing_secret(settings)
    token = make_token(secret, options.user, options.channel, options.ttl, settings)
    if options.json:
        about = {"user": options.user, "channels": options.channel, "ttl": options.ttl}
        say_json({"token": token, **about})
    else:
        say(token)
    return 0


def _check_names(options: argparse.Namespace) -> None:
    """See to it that a token names a user whom a gateway lets in, and channels that there can be.

    Raises:
        UsageError: it would be refused, or of no use.
    """
    try:
        parse_channel(f"{NOTIFICATIONS}/{options.user}")
    except InvalidChannel:
        raise UsageError("--user must be the id of a user, without control characters") from None
    for name in options.channel:
        try:
            parse_channel(name)
        except InvalidChannel:
            raise UsageError(
                f"--channel {name!r} must be <namespace>/<id> or <namespace>/*"
            ) from None
