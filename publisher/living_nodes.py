"""Which gateways live, and what each says of itself."""

from __future__ import annotations

from publisher.contract import node_report, scripts
from publisher.contract.calls import Call
from publisher.contract.keys import Keys
from publisher.records import Node
from publisher.retrying import Retries, read
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
