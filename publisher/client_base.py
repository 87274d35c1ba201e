"""What the blocking client and the asyncio one have in common."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from publisher.errors import InvalidData
from publisher.operations import Operations
from publisher.publication import Options
from publisher.records import check_give_up_after, check_retries
from publisher.retrying import Retries
from publisher.transport.redis_py import PIPELINES, ClusterClient
from publisher.transport.redis_py import Client as RedisClient
from publisher.transport.topology import Topology, topology_of
from publisher.transport.valkey_py import is_a

DEFAULT_TIMEOUT_SECONDS: Final = 5.0
DEFAULT_GIVE_UP_AFTER_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Tries:
    """How long a call is tried: ``retries`` times more on one server, ``give_up_after`` seconds on Sentinel and in a
    cluster.

    Raises:
        InvalidData: a number that cannot be.
    """

    retries: int
    give_up_after: float

    def __post_init__(self) -> None:
        check_retries(self.retries)
        check_give_up_after(self.give_up_after)


class Client:
    """What the clients have in common: how to connect, and what their calls do."""

    _of_url = False
    _made_of: ClassVar[type[RedisClient]]
    _cluster_made_of: ClassVar[type[ClusterClient]]

    def _set_up(
        self, topology: Topology, timeout: float, prefix: str, tries: Tries, options: Options
    ) -> None:
        self._state = (topology, timeout, prefix, tries, options)
        self._keys = topology.keys(prefix)
        self._operations = Operations(
            self._keys,
            clock=time.monotonic,
            wall_clock=_microseconds,
            retries=Retries(
                tries.retries,
                random.random,
                give_up_after=tries.give_up_after
                if topology.sentinels or topology.cluster
                else None,
            ),
            options=options,
        )

    @classmethod
    def _topology(cls, client: Any) -> Topology:
        """What ``client`` leads to; it is not repeated where it cannot be used: a URL may hold a password."""
        if isinstance(client, Topology):
            return client  # of from_url
        # A pipeline is derived from a client, and keeps what it is given until it is told to send it.
        if cls._takes(client) and not is_a(client, *PIPELINES):
            return topology_of(client)
        module = cls._made_of.__module__.removesuffix(".client")
        raise InvalidData(
            f"{cls.__name__}() takes a client, {module}.{cls._made_of.__name__}, and this is a "
            f"{type(client).__module__}.{type(client).__name__}; {cls._advice(client)}"
        )

    @classmethod
    def _takes(cls, client: Any) -> bool:
        """Whether a client of Redis is of the kind, blocking or asyncio, that this class is made of."""
        return is_a(client, cls._made_of, cls._cluster_made_of)

    @classmethod
    def _advice(cls, client: Any) -> str:
        """What to pass, or to call, instead of something that is no client of this class's."""
        if is_a(client, *PIPELINES):
            return "pass the client that the pipeline was made from"
        if hasattr(client, "master_for"):
            return "pass its master_for(name)"
        for other in Client.__subclasses__():
            if other._takes(client):  # noqa: SLF001 - of the same family
                return f"pass it to {other.__name__}()"
        return f"for a URL there is {cls.__name__}.from_url(url)"

    def __getstate__(self) -> tuple[Any, ...]:
        if not self._of_url:
            raise TypeError(
                f"a {type(self).__name__} made of a client of yours cannot be pickled: "
                "make it with from_url or from_env"
            )
        return self._state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._set_up(*state)
        self._of_url = True


def _microseconds() -> int:
    return time.time_ns() // 1000
