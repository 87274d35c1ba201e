"""Commands that reach every node at once, over the control channel, and answers that reach the node that has asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import orjson

from publisher.contract import inspection
from publisher.contract.grants import Grantee, grantee_of, member_of
from publisher.contract.inspection import Inspection


@dataclass(frozen=True, slots=True)
class GrantRevoked:
    """The grant of ``user`` (or everybody) in ``channel`` was taken back, or ends sooner than before.

    Nodes ask about it again, and end the subscriptions that nothing else allows. In a cluster it also goes where the
    channel's messages go, behind those that came before it: the server on which a node hears the control channel may
    hang while the channel's own goes on.
    """

    channel: str
    user: Grantee
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Connections of ``user`` end that were given their places up to ``at`` (microseconds of the clock of Redis).

    All of them, or that ``connection`` (``<node>/<id>``) alone. Their clients are told the ``reason``. ``again``: it is
    told once more, with the first ``at``.
    """

    user: str
    at: int
    reason: str = ""
    connection: str | None = None
    actor: str | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """The token with this ``digest`` (``revocations.py``) is revoked: connections with it end."""

    digest: str
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class TokensRevoked:
    """The tokens of ``user`` that were issued ``before`` (seconds since 1970) are revoked, and those that do not say when."""

    user: str
    before: float
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class CheckPlaces:
    """``user`` is at the limit: ``nodes`` look which of the places that they hold are still somebody's.

    Each releases those that are no connection's, and closes those of ``members`` (``<node>/<connection>``) whose
    clients are silent. Then it answers ``asker`` with :class:`PlacesChecked`. Nodes of version 0.1 know no
    ``members`` and no ``asker``: they do the first, and do not answer.
    """

    user: str
    nodes: tuple[str, ...]
    members: tuple[str, ...] = ()
    asker: str = ""


@dataclass(frozen=True, slots=True)
class PlacesChecked:
    """``node`` holds no places of ``user`` any more but those of living clients."""

    user: str
    node: str


@dataclass(frozen=True, slots=True)
class PlaceReplaced:
    """The place of ``member`` (``<node>/<connection>``) is another connection's of ``user``, which came later."""

    user: str
    member: str


@dataclass(frozen=True, slots=True)
class DrainNode:
    """``node`` ends as after SIGTERM. Nodes before version 0.2 do not know it, and skip it."""

    node: str
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A client that has no WebSocket says something to its ``stream``, which is on another node than the request has come to.

    ``message`` is of the protocol with clients. ``wait``: seconds for which it waits for messages, if it polls; ``since`` is
    where it says that it stands. ``leaves``: it ends its stream. The stream's node answers ``asker`` with :class:`ClientAnswer`, by the ``number``.
    """

    stream: str
    user: str
    asker: str
    number: int
    message: str = ""
    wait: float | None = None
    since: str = ""
    leaves: bool = False


@dataclass(frozen=True, slots=True)
class ClientAnswer:
    """The status, as of HTTP, and the ``body`` with which a request is to be answered. 102: it waits for its answer."""

    number: int
    status: int
    body: str = ""


@dataclass(frozen=True, slots=True)
class ClientGone:
    """The client has gone whose poll ``asker`` has handed on with this ``number``."""

    asker: str
    number: int


OfStreams: TypeAlias = ClientRequest | ClientAnswer | ClientGone
"""What nodes say to each other for clients without a WebSocket."""
_OF_STREAMS: Final[dict[type[OfStreams], str]] = {
    ClientRequest: "client_request",
    ClientAnswer: "client_answer",
    ClientGone: "client_gone",
}

Command: TypeAlias = (
    GrantRevoked
    | Disconnect
    | TokenRevoked
    | TokensRevoked
    | CheckPlaces
    | PlacesChecked
    | PlaceReplaced
    | DrainNode
    | OfStreams
    | Inspection
)


def encode(command: Command) -> bytes:
    """The command as it travels."""
    match command:
        case Disconnect():
            return whole(head_of(command), command.at, again=command.again)
        case PlaceReplaced(user, member):
            return b'%b,"member":%b}' % (head_of_replacement(user), orjson.dumps(member))
        case ClientRequest() | ClientAnswer() | ClientGone():
            return orjson.dumps({"type": _OF_STREAMS[type(command)], **asdict(command)})
        case (
            inspection.Question() | inspection.Reply() | inspection.Watch() | inspection.Happened()
        ):
            return orjson.dumps(inspection.message_of(command))
        case _:
            return orjson.dumps(_message(command))


def _message(
    command: GrantRevoked | TokenRevoked | TokensRevoked | CheckPlaces | PlacesChecked | DrainNode,
) -> dict[str, Any]:
    match command:
        case GrantRevoked(channel, user, actor):
            told = {"type": "grant_revoked", "channel": channel, "user": member_of(user)}
            return told if actor is None else told | {"actor": actor}
        case TokenRevoked(digest, actor):
            return {"type": "token_revoked", "token": digest, "actor": actor}
        case TokensRevoked(user, before, actor):
            return {"type": "tokens_revoked", "user": user, "before": before, "actor": actor}
        case CheckPlaces(user, nodes, members, asker):
            return {
                "type": "reconcile_places",
                "user": user,
                "nodes": nodes,
                "members": members,
                "asker": asker,
            }
        case PlacesChecked(user, node):
            return {"type": "places_checked", "user": user, "node": node}
        case DrainNode(node, actor):
            return {"type": "drain_node", "node": node, "actor": actor}


def head_of(command: Disconnect) -> bytes:
    """The command without its end, which :func:`whole` adds: Redis says when it is given."""
    return orjson.dumps(
        {
            "type": "disconnect",
            "user": command.user,
            "connection": command.connection,
            "reason": command.reason,
            "actor": command.actor,
        }
    )[:-1]


def head_of_replacement(user: str) -> bytes:
    """The command about a place that another connection was given, without its end: Redis says whose it was."""
    return orjson.dumps({"type": "place_replaced", "user": user})[:-1]


def whole(head: bytes, at: int, *, again: bool = False) -> bytes:
    """A command that ends connections up to ``at``, as ``disconnect.lua`` makes it."""
    return b'%b%b,"at":%d}' % (head, b',"again":true' if again else b"", at)


def decode(payload: bytes) -> Command | None:
    """Read a command; ``None`` for one this version does not know, so that versions can be mixed.

    Raises:
        ValueError: the payload is not a command at all.
    """
    message = orjson.loads(payload)
    match message:
        case {"type": str()}:
            found = _about_access(message) or _about_places(message) or _of_clients(message)
            return found or inspection.read(message)
        case _:
            raise ValueError("not a control command")


def _about_access(message: dict[str, Any]) -> Command | None:
    match message:
        case {"type": "grant_revoked", "channel": str(channel), "user": str(member)}:
            return GrantRevoked(channel, grantee_of(member), _actor(message))
        case {
            "type": "disconnect",
            "user": str(user),
            "at": int(at),
            "reason": str(reason),
            "connection": (str() | None) as connection,
        }:
            again = message.get("again") is True
            return Disconnect(user, at, reason, connection, _actor(message), again)
        case {"type": "token_revoked", "token": str(digest)}:
            return TokenRevoked(digest, _actor(message))
        case {"type": "tokens_revoked", "user": str(user), "before": int(before) | float(before)}:
            return TokensRevoked(user, before, _actor(message))
        case _:
            return None


def _about_places(message: dict[str, Any]) -> Command | None:
    match message:
        case {
            "type": "reconcile_places",
            "user": str(user),
            "nodes": list(nodes),
            "members": list(members),
            "asker": str(asker),
        }:
            return CheckPlaces(user, tuple(nodes), tuple(members), asker)
        case {"type": "reconcile_places", "user": str(user), "nodes": list(nodes)}:
            return CheckPlaces(user, tuple(nodes))
        case {"type": "places_checked", "user": str(user), "node": str(node)}:
            return PlacesChecked(user, node)
        case {"type": "place_replaced", "user": str(user), "member": str(member)}:
            return PlaceReplaced(user, member)
        case {"type": "drain_node", "node": str(node)}:
            return DrainNode(node, _actor(message))
        case _:
            return None


def _of_clients(message: dict[str, Any]) -> Command | None:
    match message:
        case {
            "type": "client_request",
            "stream": str(stream),
            "user": str(user),
            "asker": str(asker),
            "number": int(number),
            "message": str(said),
            "wait": (int() | float() | None) as wait,
            "since": str(since),
        }:
            leaves = message.get("leaves") is True
            return ClientRequest(stream, user, asker, number, said, wait, since, leaves)
        case {"type": "client_answer", "number": int(n), "status": int(s), "body": str(body)}:
            return ClientAnswer(n, s, body)
        case {"type": "client_gone", "asker": str(asker), "number": int(number)}:
            return ClientGone(asker, number)
        case _:
            return None


def _actor(message: dict[str, Any]) -> str | None:
    """Who has given a command, where it says so."""
    actor = message.get("actor")
    return actor if isinstance(actor, str) else None
