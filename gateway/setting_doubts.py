"""Settings that may be meant as they are, and probably are not."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Final
from urllib.parse import parse_qs

from gateway.settings import Settings
from publisher.contract.events import UNCONFIRMED
from publisher.contract.redis_url import holds_password

_HOST_COOKIE: Final = "__Host-"
_WHOLE_DOMAIN: Final = re.compile(r"[^:]+://\*\.(?!localhost\b)[^.:]+(:.*)?")
"""A pattern for all names below one that ends a name, such as ``https://*.org``."""
_WRAPPED: Final = re.compile(r"""^[\s"'\ufeff]|[\s"']$|^[A-Z][A-Z_]+=.""")
"""What comes along with a secret that was copied with what stood around it."""


def doubts(settings: Settings) -> list[str]:
    """A sentence for each of them; none in development mode. A value that may be secret is not repeated."""
    if settings.development:
        return []
    return [sentence for is_doubtful, sentence in _DOUBTS if is_doubtful(settings)]


def _trusts_everybody(settings: Settings) -> bool:
    return any(ip_network(each, strict=False).prefixlen == 0 for each in settings.trusted_proxies)


def _trusts_a_domain(settings: Settings) -> bool:
    return any(map(_WHOLE_DOMAIN.fullmatch, settings.allowed_origins))


def _secret_is_wrapped(settings: Settings) -> bool:
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret is not None else ""
    return _WRAPPED.search(secret) is not None


def _url(settings: Settings) -> str:
    return settings.redis_url.get_secret_value() if settings.redis_url is not None else ""


def _verifies_no_redis(settings: Settings) -> bool:
    return parse_qs(_url(settings).partition("?")[2]).get("ssl_cert_reqs") == ["none"]


def _tells_too_soon(settings: Settings) -> bool:
    soon = settings.unconfirmed_after_seconds < 4 * settings.confirm_interval_seconds
    return UNCONFIRMED in settings.events and soon


def _has_all_rights(settings: Settings) -> bool:
    url = _url(settings)
    user = url.partition("://")[2].rpartition("@")[0].partition(":")[0]
    return holds_password(url) and user in {"", "default"}


_DOUBTS: Final[tuple[tuple[Callable[[Settings], bool], str], ...]] = (
    (
        lambda settings: not settings.allowed_origins,
        (
            "GATEWAY_ALLOWED_ORIGINS is empty, so pages of every origin may connect: list those of yours, "
            "or write * if that is meant"
        ),
    ),
    (
        _trusts_a_domain,
        (
            "GATEWAY_ALLOWED_ORIGINS has a pattern such as https://*.org, and anybody may own a page below that: "
            "name your own domain"
        ),
    ),
    (
        _trusts_everybody,
        (
            "GATEWAY_TRUSTED_PROXIES holds every address, so each client says by itself which address it has: "
            "name the networks of your proxies"
        ),
    ),
    (
        lambda settings: settings.proxy_protocol and not settings.trusted_proxies,
        "GATEWAY_PROXY_PROTOCOL has no effect without GATEWAY_TRUSTED_PROXIES: name the networks of your proxies",
    ),
    (
        lambda settings: (
            not settings.jwt_require_expiry and settings.jwt_max_lifetime_seconds is None
        ),
        (
            "GATEWAY_JWT_REQUIRE_EXPIRY is false, so a token without exp that was stolen is good for ever: "
            "let the login give its tokens an end"
        ),
    ),
    (
        lambda settings: not (settings.jwt_cookie or _HOST_COOKIE).startswith(_HOST_COOKIE),
        (
            "GATEWAY_JWT_COOKIE does not begin with __Host-, so a neighbouring domain can set this cookie for yours: "
            "let the login name it so"
        ),
    ),
    (
        _secret_is_wrapped,
        (
            "GATEWAY_JWT_SECRET begins or ends with a space, a quotation mark or a byte order mark, or begins with NAME=: tokens are "
            "signed with all of it; take away what is not part of the secret"
        ),
    ),
    (
        _tells_too_soon,
        (
            "GATEWAY_UNCONFIRMED_AFTER_SECONDS is less than four times GATEWAY_CONFIRM_INTERVAL_SECONDS: a user who is there may not "
            "have confirmed by then"
        ),
    ),
    (
        _verifies_no_redis,
        "GATEWAY_REDIS_URL has ssl_cert_reqs=none, so whoever is on the way can be Redis: name its authority in ssl_ca_certs",
    ),
    (
        _has_all_rights,
        (
            "GATEWAY_REDIS_URL names Redis' default user, who most often may do everything: "
            "`gateway acl` prints one with the least rights"
        ),
    ),
)
"""What is doubtful, and what to say of it."""
