"""Where a client really connects from: what trusted proxies say of it, and nobody else (RFC 7239)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from gateway.core import header_lists
from gateway.core.http import OPTIONAL_SPACE, Head

# `1.2.3.4:80` or `[2001:db8::1]:80`; RFC 7239 §6 also has hidden ports, `_x`.
_WITH_PORT: Final = re.compile(r"\[([^\]]*)\](?::[\w.-]+)?|([^:\[\]]+):[\w.-]+")
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_LARGEST_IPV4: Final = 2**32 - 1
_IPV6_BLOCK: Final = 64
"""Bits of an IPv6 address that name a line: whoever has one address has all of its block."""
_FIELDS: Final = frozenset({"x-forwarded-for", "forwarded"})


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
        self._networks = [_network(each) for each in networks]

    def __contains__(self, address: str | None) -> bool:
        if address is None or not self._networks:
            return False
        found = ip_address(address)
        return any(found in network for network in self._networks)

    def client(self, peer: str | None, head: Head) -> Client:
        """Who is behind a connection.

        Of the addresses that proxies have noted, the last one that is not a trusted proxy's counts: what stands before
        it came from the client. There are two fields for them. A proxy that writes one passes the other one on as
        the client has sent it: if they disagree, neither is believed. Nor is a malformed one: a quotation that the
        client has begun, and not ended, takes in what the proxy adds.

        Args:
            peer: the address at the other end of the connection.
            head: what was received over it.
        """
        if peer not in self:
            return Client(peer, peer is not None)
        try:
            found = self._noted(head)
        except ValueError:
            return Client(peer, True)
        if len(found) != 1:
            return Client(peer, bool(found))
        address = found.pop()
        return Client(address, address is not None and address not in self)

    def ignores(self, peer: str, head: Head) -> bool:
        """Whether somebody who is not trusted, perhaps a proxy that was forgotten, says who is behind a connection."""
        said = not _FIELDS.isdisjoint(head.fields)
        return said and peer not in self

    def _noted(self, head: Head) -> set[str | None]:
        """The client's address by the word of each field; ``None`` where it says that it is not known.

        Raises:
            ValueError: a field is malformed.
        """
        found = set()
        if (forwarded_for := head.get("x-forwarded-for")) is not None:
            found.add(self._last_untrusted(reversed(forwarded_for.split(","))))
        if (forwarded := head.get("forwarded")) is not None:
            elements = reversed(header_lists.members(forwarded))
            found.add(self._last_untrusted(map(_for, elements)))
        return found

    def _last_untrusted(self, nodes: Iterable[str]) -> str | None:
        """The first one that is not a trusted proxy's, of nodes that begin with the last one."""
        address = None
        for node in nodes:
            address = address_of(node)
            # Who stands before an unknown one is not known either.
            if address not in self:
                break
        return address


def address_of(node: str) -> str | None:
    """The address in ``1.2.3.4``, ``1.2.3.4:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``, in its usual form.

    ``None`` where there is none, as in ``unknown`` or ``_hidden``.
    """
    node = node.strip(OPTIONAL_SPACE)
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


def _network(text: str) -> IPv4Network | IPv6Network:
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        # An IPv4 address has one form here, also where it came over a port that serves both families.
        first = IPv4Address(int(network.network_address) & _LARGEST_IPV4)
        return IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))
    return network


def _for(element: str) -> str:
    """The ``for`` of an element of a ``Forwarded`` field; empty where there is none.

    Raises:
        ValueError: the element is malformed.
    """
    parameters = header_lists.parameters(element)
    if parameters is None:
        raise ValueError("malformed")
    return next((value or "" for name, value in parameters if name.lower() == "for"), "")
