"""Which gateways live, what each says of itself, and how one is told to end."""

from __future__ import annotations

from publisher.contract import control, node_report, scripts
from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.errors import InvalidInput
from publisher.records import Node
from publisher.retrying import Retries, read, repeat
from publisher.transport.flows import Flow


def nodes(keys: Keys, retries: Retries) -> Flow[list[Node]]:
    """All whose lease has not run out, by name."""
    (living,) = yield from read([Call.run(scripts.LIVE_NODES, [keys.nodes])], retries)
    names = sorted(name.decode() for name in living)
    calls = [Call(("GET", keys.node(name))) for name in names]
    replies = []
    # In a cluster each is of a slot of its own.
    for part in [[each] for each in calls] if keys.sharded else [calls]:
        if part:
            replies += yield from read(part, retries)
    return [
        Node(name, node_report.decode(reply)) for name, reply in zip(names, replies, strict=True)
    ]


def drain(keys: Keys, retries: Retries, node: str, actor: str | None) -> Flow[None]:
    """Tell a node to end as after SIGTERM. Twice does no more than once."""
    living = yield from nodes(keys, retries)
    if node not in {each.name for each in living}:
        raise InvalidInput(f"there is no living node {node!r}")
    command = control.encode(control.DrainNode(node, actor))
    yield from repeat([Call(("PUBLISH", keys.control, command))], retries)
