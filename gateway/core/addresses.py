"""Where a client really connects from: what trusted proxies say of it, and nobody else (RFC 7239)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from gateway.core import header_lists
from gateway.core.http import Head

# `1.2.3.4:80` or `[2001:db8::1]:80`; RFC 7239 §6 also has hidden ports, `_x`.
_WITH_PORT: Final = re.compile(r"\[([^\]]*)\](?::[\w.-]+)?|([^:\[\]]+):[\w.-]+")
_IPV6_BLOCK: Final = 64
"""Bits of an IPv6 address that name a line: whoever has one address has all of its block."""


class Client(NamedTuple):
    """Where a client connects from.

    ``address``: ``None`` when it is not known. ``counts``: whether it is held to what one address may do. A proxy's
    own address is not.
    """

    address: str | None
    counts: bool


class TrustedProxies:
    """The networks whose word on a client's address is believed.

    Raises:
        ValueError: one of them is no network.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(each, strict=False) for each in networks
        ]

    def __contains__(self, address: str | None) -> bool:
        if address is None or not self._networks:
            return False
        found = ip_address(address)
        return any(found in network for network in self._networks)

    def client(self, peer: str | None, head: Head) -> Client:
        """Who is behind a connection.

        Of the addresses that proxies have noted, the last one that is not a trusted proxy's counts: what stands before
        it came from the client. There are two fields for them. A proxy that writes one passes the other one on as
        the client has sent it: if they disagree, neither is believed.

        Args:
            peer: the address at the other end of the connection.
            head: what was received over it.
        """
        if peer not in self:
            return Client(peer, peer is not None)
        found = set()
        if (forwarded_for := head.get("x-forwarded-for")) is not None:
            found.add(self._last_untrusted(forwarded_for.split(",")))
        if (forwarded := head.get("forwarded")) is not None:
            found.add(self._last_untrusted(_nodes(forwarded)))
        if len(found) != 1:
            return Client(peer, bool(found))
        address = found.pop()
        return Client(address, address is not None and address not in self)

    def _last_untrusted(self, nodes: list[str]) -> str | None:
        address = None
        for node in reversed(nodes):
            address = address_of(node)
            # Who stands before an unknown one is not known either.
            if address not in self:
                break
        return address


def address_of(node: str) -> str | None:
    """The address in ``1.2.3.4``, ``1.2.3.4:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``, in its usual form.

    ``None`` where there is none, as in ``unknown`` or ``_hidden``.
    """
    node = node.strip()
    if (with_port := _WITH_PORT.fullmatch(node)) is not None:
        node = with_port[1] or with_port[2] or ""
    try:
        found = ip_address(node.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found)


def block_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the block of 64 bits that an IPv6 address is in."""
    return str(ip_network((address, _IPV6_BLOCK), strict=False)) if ":" in address else address


def _nodes(forwarded: str) -> list[str]:
    """The ``for`` of each element of a ``Forwarded`` field; empty where there is none."""
    return [
        next((value or "" for name, value in element or () if name.lower() == "for"), "")
        for element in header_lists.parse(forwarded)
    ]
