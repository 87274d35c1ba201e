"""Every kind of attack: who attacks, what the node is set to, and what it may cost."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.attacks import askers, strangers
from tests.attacks.target import Target


@dataclass(frozen=True)
class Kind:
    """An attack.

    Attributes:
        attacker: who attacks.
        memory_mib: by how much the node's memory may grow.
        log_kb: how much it may log.
        redis_share: how much of a core Redis may take meanwhile.
        drawn_mib: how much the attacker may be sent.
        behind_nginx: whether it comes through the nginx of the deployment.
        files: how many the node may open, if not all.
        settings: of the node, if not the default ones.
    """

    attacker: Callable[[Target], Coroutine[None, None, None]]
    memory_mib: float = 16
    log_kb: float = 8
    redis_share: float = 0.25
    drawn_mib: float = 16
    behind_nginx: bool = False
    files: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """In words."""
        name = self.attacker.__name__.replace("_", " ")
        return f"{name}, through nginx" if self.behind_nginx else name


KINDS = (
    # -- before a token (strangers.py) --
    Kind(strangers.another_version_and_zeros),
    Kind(strangers.a_bad_token_and_zeros),
    Kind(strangers.a_bad_token_of_60_kb),
    Kind(strangers.no_request),
    Kind(strangers.malformed_requests),
    Kind(strangers.long_heads),
    Kind(strangers.requests_without_an_upgrade),
    Kind(strangers.foreign_origins, settings={"allowed_origins": "https://app.example"}),
    Kind(strangers.tls_and_http2),
    Kind(strangers.requests_behind_a_refused_upgrade),
    Kind(strangers.requests_behind_a_page),
    Kind(strangers.an_endless_body_for_a_page),
    Kind(strangers.a_page_that_nobody_reads),
    Kind(strangers.idle_connections_beyond_the_files, files=400),
    Kind(strangers.idle_connections_from_one_address, settings={"unauthenticated_per_address": 20}),
    Kind(strangers.slow_heads),
    # Each may hold a whole head, 64 KB, for the ten seconds that a request may take.
    Kind(strangers.heads_that_wait_at_their_limit, memory_mib=96),
    Kind(
        strangers.junk_from_a_trusted_proxy,
        settings={"trusted_proxies": strangers.PROXY, "proxy_protocol": True},
    ),
    Kind(strangers.secrets_in_odd_places),
    # -- requests (askers.py) --
    # Room for the five that the user may hold, five that are being decided about, the bystander, and newcomers.
    Kind(askers.sixth_connections, settings={"max_connections": 14}),
    Kind(askers.the_user_whose_id_is_a_star),
)
