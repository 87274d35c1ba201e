"""Variables that look like settings and are none: a mistake, or what Kubernetes sets for a Service.

In a namespace with a Service called ``gateway`` every container gets ``GATEWAY_PORT=tcp://10.0.0.1:3001``,
``GATEWAY_SERVICE_HOST`` and more, so that it finds the Service (Kubernetes calls them Service links); with a Service
called ``gateway-internal`` it is ``GATEWAY_INTERNAL_PORT``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Final

_PREFIX: Final = "GATEWAY_"
_NOT_SETTINGS: Final = frozenset({"GATEWAY_CONFIG", "GATEWAY_TOKEN"})

_NEAR: Final = 0.7
"""How alike two names are of which one may be a slip of the other, from 0 to 1 (difflib): PROT and PORT are 0.75."""

_LINK: Final = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINK_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)


def is_service_link(name: str, value: str | None) -> bool:
    """Whether Kubernetes has set this variable of ours for a Service; nobody means a setting by it."""
    name = name.upper()
    if not name.startswith(_PREFIX):
        return False
    if name.endswith("_PORT") and _LINK_ADDRESS.match(value or ""):
        return True
    return _LINK.fullmatch(name.removeprefix(_PREFIX)) is not None


def did_you_mean(name: str, settings: Collection[str], prefix: str = "") -> str:
    """What follows where there is no such setting: the one that was perhaps meant, behind a prefix; empty where none is near.

    Args:
        name: what was given, in any case, with or without ``GATEWAY_``.
        settings: the names of the settings.
        prefix: ``GATEWAY_`` to name the variable.
    """
    bare = name.lower().removeprefix(_PREFIX.lower())
    near = get_close_matches(bare, settings, n=1, cutoff=_NEAR)
    if not near:
        return ""
    return f"; did you mean {prefix + near[0].upper() if prefix else near[0]}?"


def advice(environment: Mapping[str, str], settings: Collection[str]) -> list[str]:
    """A sentence for each variable that begins like a setting's and is none, and one for all Service links.

    Args:
        environment: variables and their values, which are never told: they may be secret.
        settings: the names of the settings.
    """
    known = {f"{_PREFIX}{name.upper()}" for name in settings}
    ours = sorted(name for name in environment if name.startswith(_PREFIX))
    links = [name for name in ours if is_service_link(name, environment[name])]
    unknown = [name for name in ours if name not in known | _NOT_SETTINGS and name not in links]
    found = [
        f"{name} is set, but there is no such setting{did_you_mean(name, settings, _PREFIX)}"
        for name in unknown
    ]
    if links:
        # Those that would have been settings first.
        links.sort(key=lambda name: name not in known)
        more = f" and {len(links) - 1} more" if links[1:] else ""
        found.append(
            f"Kubernetes has set {links[0]}{more} for a Service, which is no setting: "
            "enableServiceLinks: false in the pod's spec, or another name of the Service, avoids this"
        )
    return found
