"""Announcing namespaces as a gateway does."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import redis

from publisher import Namespace
from publisher.contract.keys import Keys
from publisher.contract.scripts import ANNOUNCE

FORGOTTEN_SECONDS = 300

Announce = Callable[..., None]


def announcer(server: redis.Redis, keys: Keys) -> Announce:
    """What announces these namespaces, as a gateway does that has them."""

    def announce(*namespaces: Namespace) -> None:
        rules = (part for each in namespaces for part in (each.name, orjson.dumps(each.to_dict())))
        server.eval(ANNOUNCE.text, 1, keys.namespaces, FORGOTTEN_SECONDS, *rules)

    return announce
