"""``gateway acl``: users of Redis with the least rights."""

from __future__ import annotations

import argparse
from typing import Final

from gateway import redis_acl
from gateway.commands.output import Commands, complain, say, say_json
from gateway.options import add_options, load_settings
from gateway.settings import UsageError
from publisher.errors import InvalidInput

_TEXTS: Final = {
    "redis_url": "what the gateways have: whose name and password their user gets; or @FILE",
    "redis_prefix": "what the keys begin with to which the users have access (default: rt1)",
    "api_port": "what the gateways have, if they have an HTTP API",
    "console": "what the gateways have: whether there is a console",
}
"""What the settings say here."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "acl",
        help="print users of Redis with the least rights",
        description="Print the lines of an ACL file of Redis: one user for the gateways, one for the publishers, each with "
        "the least rights. Names and passwords are those of GATEWAY_REDIS_URL and PUBLISHER_REDIS_URL, where "
        "they are set; passwords are printed as their SHA-256. With GATEWAY_API_PORT or GATEWAY_CONSOLE set, the gateways' "
        "user also has what the HTTP API and the console need.",
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "--redis-version",
        metavar="VERSION",
        help="such as 7.2, or valkey: from 7.2 on with the right to say which library connects (default: lines that every "
        "version loads)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_options(parser, _TEXTS, _TEXTS)


def _run(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    url = settings.redis_url
    try:
        lines = redis_acl.lines(
            url.get_secret_value() if url else None,
            redis_acl.publishers_url(),
            settings.redis_prefix,
            options.redis_version,
            api=settings.console or settings.api_port is not None,
        )
    except InvalidInput as error:
        raise UsageError(str(error)) from None
    if options.json:
        gateways, publishers = lines
        say_json({"gateways": gateways, "publishers": publishers})
    else:
        say("\n".join(lines))
    if any(redis_acl.PLACEHOLDER in line for line in lines):
        complain(
            f"put the password's SHA-256 in the place of {redis_acl.PLACEHOLDER}, or >PASSWORD; until then "
            "Redis does not load the line"
        )
    return 0
