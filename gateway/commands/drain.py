"""``gateway drain``: one of the gateways ends, wherever it runs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Final

import orjson

from gateway.commands import asking_redis
from gateway.commands.output import Commands, complain, say
from gateway.options import add_options
from gateway.settings import UsageError
from publisher import Publisher

_DESCRIPTION: Final = (
    "Let a gateway end as SIGTERM does: it is not ready any more, closes its connections one after the other, and exits. "
    "Whoever runs it decides whether it is started again. The command returns when the gateway says that it drains, or is "
    "gone. Exit codes: 0 it drains or is gone, 1 it does not answer, or Redis is unavailable, 2 there is no such gateway, "
    "or another mistake in the command."
)
_ASKED_SECONDS: Final = 0.25
_LONGEST_WAIT_SECONDS: Final = 3600


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("drain", help="let a gateway end", description=_DESCRIPTION)
    parser.set_defaults(run=_run)
    parser.add_argument(
        "node",
        metavar="NODE",
        help="its name, as `gateway top` shows it, or what stands there before the last -",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long to wait for its answer (default: 30); a gateway says every few seconds how it is",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_options(parser, asking_redis.SETTINGS, asking_redis.HELP)


def _run(options: argparse.Namespace) -> int:
    if not 0 <= options.wait <= _LONGEST_WAIT_SECONDS:
        raise UsageError(f"--wait must be 0 to {_LONGEST_WAIT_SECONDS} seconds")
    url, prefix = asking_redis.where(options)
    with Publisher.from_url(url, prefix=prefix) as publisher:
        name = _full_name([node.name for node in publisher.nodes()], options.node)
        before = _state(publisher, name)
        if before != "draining":
            publisher.drain(name)
        after = before if before == "draining" else _wait(publisher, name, options.wait)
    texts = {
        "draining": "is draining" if before != "draining" else "is draining already",
        "gone": "is gone",
        "silent": f"was told to drain and has not said within {options.wait:g} s that it does. It may be dead, and is then "
        "off the list when its lease has run out; or it is older than 0.2 and does not listen. Send its process SIGTERM",
    }
    told = f"{name} {texts[after]}"
    if options.json:
        say(orjson.dumps({"node": name, "state": after}).decode())
    elif after != "silent":
        say(told)
    if after == "silent":
        complain(told)
    return 1 if after == "silent" else 0


def _full_name(nodes: Sequence[str], given: str) -> str:
    """The name of the node that is meant: of several starts of a gateway each has a name of its own, which ends differently.

    Raises:
        UsageError: several are called so.
    """
    found = [name for name in nodes if given in (name, name.rpartition("-")[0])]
    if len(found) > 1 and given not in found:
        raise UsageError(f"several gateways are called {given}: {', '.join(found)}")
    return found[0] if len(found) == 1 else given


def _state(publisher: Publisher, name: str) -> str:
    """``gone``, ``draining``, or ``silent`` when the node has not said that it drains."""
    found = {node.name: node.report for node in publisher.nodes()}
    if name not in found:
        return "gone"
    report = found[name]
    return "draining" if report is not None and report.draining else "silent"


def _wait(publisher: Publisher, name: str, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while (state := _state(publisher, name)) == "silent" and time.monotonic() < deadline:
        time.sleep(_ASKED_SECONDS)
    return state
