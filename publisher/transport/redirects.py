"""The errors by which a server of a cluster leads elsewhere. It has carried nothing out: the call may be sent there."""

from __future__ import annotations

from typing import Final, NamedTuple

from publisher.contract.calls import Call, Reply
from publisher.transport.failures import code
from publisher.transport.redis_py import Host

ASKING: Final = Call(("ASKING",))
"""Goes before a call that is sent where ``ASK`` has led it."""

_ELSEWHERE: Final = frozenset({"MOVED", "ASK"})
NO_NAME: Final = b"?"
"""In the place of a server's host name where names are preferred and it has none."""


class Redirect(NamedTuple):
    """Where a call is to be sent; ``asking``: this once, behind :data:`ASKING`."""

    host: Host
    asking: bool


def redirect(error: Reply, asked: Host) -> tuple[int, Redirect] | None:
    """The slot, and where the error of ``asked`` leads; ``None`` if it does not lead elsewhere, or does not say where."""
    name = code(error)
    if name not in _ELSEWHERE:
        return None
    # The redis package takes the code off the text, others leave it there.
    slot, address = str(error).split()[-2:]
    host, _, port = address.rpartition(":")
    if host == NO_NAME.decode():
        return None
    return int(slot), Redirect((host.strip("[]") or asked[0], int(port)), name == "ASK")


def leads_nowhere(reply: Reply) -> bool:
    """Whether another server has the slot, and it is not said which. The map tells: then the call is to be sent again."""
    return code(reply) in _ELSEWHERE and redirect(reply, ("", 0)) is None
