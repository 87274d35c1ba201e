"""Who may subscribe to what. Denied unless a rule allows it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from gateway.core.claims import Identity
from publisher.channels import Channel, Namespace, Owner


class Decision(Enum):
    """What the rules say without asking Redis."""

    ALLOWED = auto()
    DENIED = auto()
    IF_GRANTED = auto()


def keeps_log(namespace: str, namespaces: Mapping[str, Namespace]) -> bool:
    """Whether a namespace's messages are logged; an unknown one keeps nothing."""
    rules = namespaces.get(namespace)
    return rules is not None and rules.retention is not None


def decide(identity: Identity, channel: Channel, namespaces: Mapping[str, Namespace]) -> Decision:
    """Judge a subscription by the namespace's owner rule.

    A token's ``channels`` claim stands in for a grant and for nothing else: it opens no other user's
    own channel.
    """
    namespace = namespaces.get(channel.namespace)
    match namespace and namespace.owner:
        case Owner.USER:
            return Decision.ALLOWED if channel.id == identity.user else Decision.DENIED
        case Owner.GRANT:
            named = {channel.name, f"{channel.namespace}/*"} & identity.channels
            return Decision.ALLOWED if named else Decision.IF_GRANTED
        case Owner.ANYONE:
            return Decision.ALLOWED
        case _:
            return Decision.DENIED
