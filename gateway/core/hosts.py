"""Which names of hosts mean this machine: what goes there in clear text passes through nobody's hands."""

from __future__ import annotations

import ipaddress


def is_this_machine(host: str) -> bool:
    """Whether a host, as a URL names it, is this machine: an address of its own, or ``localhost``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
