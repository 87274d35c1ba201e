"""A client that has asked Redis already what it needs to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from publisher.contract import rights
from publisher.contract.channels import DEFAULT_NAMESPACES, Namespace
from publisher.contract.keys import Keys
from publisher.preflight import Preflight
from publisher.retrying import Retries
from publisher.transport.redis_py import Host

PRIMARY: Host = ("primary", 1)
"""The one of a cluster that gives all rights."""


def informed(
    keys: Keys,
    clock: Callable[[], float],
    retries: Retries,
    known: Mapping[str, Namespace] = DEFAULT_NAMESPACES,
) -> Preflight:
    """It has learnt ``known`` at 0 of ``clock``, and has all rights."""
    preflight = Preflight(keys, clock, retries, known, learnt_at=0.0)
    uses = rights.to_publish, rights.to_grant, rights.to_revoke
    preflight._allowed |= {*uses, *((use, PRIMARY) for use in uses)}
    return preflight
