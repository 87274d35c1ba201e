"""Every kind of attack: who attacks, what the node is set to, and what it may cost."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attacks import askers, callers, doors, floods, nearly_right, strangers, streamers
from tests.attacks.beside import Beside, certificates, http_api, identity_provider, nothing
from tests.attacks.target import Target

GENEROUS = {
    "stall_seconds": 1,
    "client_messages_per_second": 100_000,
    "client_message_burst": 100_000,
}
"""So much may be sent that only clients that do not read are ended, and soon."""


EVER_AGAIN = {"failed_authentications_per_minute": 1_000_000}
"""Nobody is refused unheard, so that what is heard shows what it costs."""


@dataclass(frozen=True)
class Kind:
    """An attack.

    Attributes:
        attacker: who attacks.
        memory_mib: by how much the node's memory may grow.
        log_kb: how much it may log.
        redis_share: how much of a core Redis may take meanwhile.
        redis_mib: how much more memory Redis may need afterwards.
        keys: how many more keys it may hold afterwards.
        drawn_mib: how much the attacker may be sent.
        behind_nginx: whether it comes through the nginx of the deployment.
        files: how many the node may open, if not all.
        newcomer_seconds: in which somebody else is greeted, if not the usual.
        settings: of the node, if not the default ones.
        beside: what else there is.
        variant: of another one in the table, so that it is tried with large numbers only.
    """

    attacker: Callable[[Target], Coroutine[None, None, None]]
    memory_mib: float = 16
    log_kb: float = 12
    redis_share: float = 0.25
    redis_mib: float = 16
    keys: int = 5_000
    drawn_mib: float = 64
    behind_nginx: bool = False
    files: int | None = None
    newcomer_seconds: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    beside: Callable[[Path], AbstractAsyncContextManager[Beside]] = nothing
    variant: bool = False

    @property
    def name(self) -> str:
        """In words."""
        name = self.attacker.__name__.replace("_", " ")
        return f"{name}, through nginx" if self.behind_nginx else name


KINDS = (
    # -- before a token (strangers.py) --
    Kind(strangers.another_version_and_zeros),
    Kind(strangers.a_bad_token_and_zeros),
    Kind(strangers.a_bad_token_of_60_kb, variant=True),
    Kind(strangers.no_request),
    Kind(strangers.malformed_requests),
    Kind(strangers.long_heads, variant=True),
    Kind(strangers.requests_without_an_upgrade),
    Kind(strangers.foreign_origins, settings={"allowed_origins": "https://app.example"}),
    Kind(strangers.tls_and_http2),
    Kind(strangers.requests_behind_a_refused_upgrade),
    Kind(strangers.requests_behind_a_page, variant=True),
    Kind(strangers.an_endless_body_for_a_page),
    Kind(strangers.a_page_that_nobody_reads, variant=True),
    Kind(strangers.idle_connections_beyond_the_files, files=400),
    Kind(strangers.idle_connections_from_one_address, settings={"unauthenticated_per_address": 20}),
    Kind(strangers.slow_heads),
    # Each of a thousand may hold a head, 16 KiB, for the ten seconds that a request may take.
    Kind(strangers.heads_that_wait_at_their_limit, memory_mib=48, variant=True),
    Kind(
        strangers.junk_from_a_trusted_proxy,
        settings={"trusted_proxies": strangers.PROXY, "proxy_protocol": True},
    ),
    Kind(strangers.secrets_in_odd_places),
    # -- what controls access (doors.py) --
    Kind(doors.bad_tokens_from_many_addresses),
    Kind(doors.bad_tokens_by_the_thousand),
    Kind(doors.tokens_of_keys_that_nobody_published, beside=identity_provider, settings=EVER_AGAIN),
    Kind(
        doors.cookies_by_the_kilobyte,
        settings={
            **EVER_AGAIN,
            "jwt_cookie": "token",
            "allowed_origins": "https://app.example",
        },
    ),
    Kind(doors.channel_tokens_that_are_bad),
    Kind(doors.good_channel_tokens),
    Kind(doors.channel_tokens_that_wait),
    Kind(
        doors.tabs_that_replace_each_other, settings={"connection_limit_policy": "replace_oldest"}
    ),
    # Who comes then waits behind the crowd, for fifteen seconds at most.
    Kind(
        doors.handshakes_beyond_the_rate,
        settings={"handshakes_per_second": 100},
        newcomer_seconds=15,
    ),
    # Nobody can tell the users from the crowd before TLS, so they wait among it, for ten seconds at most.
    Kind(
        doors.tls_wasted_at_the_address_of_users,
        beside=certificates,
        settings={"failed_authentications_per_minute": 1_200},
        newcomer_seconds=10,
        variant=True,
    ),
    Kind(doors.beginnings_of_tls, beside=certificates, settings=EVER_AGAIN),
    Kind(
        doors.tls_and_no_request,
        beside=certificates,
        settings={"failed_authentications_per_minute": 10},
    ),
    # Each of five hundred may hold what TLS needs to begin.
    Kind(doors.halves_of_tls, beside=certificates, memory_mib=64),
    Kind(doors.hellos_held_back, beside=certificates, settings=EVER_AGAIN, memory_mib=112),
    Kind(doors.anything_but_tls, beside=certificates, settings=EVER_AGAIN),
    Kind(doors.disconnects_by_the_thousand, redis_share=0.75),
    # -- frames (floods.py) --
    Kind(floods.empty_continuations),
    Kind(floods.empty_continuations, behind_nginx=True),
    Kind(floods.fragments_of_one_byte, variant=True),
    Kind(floods.messages_in_fragments_of_one_byte),
    Kind(floods.control_frames_amid_a_message),
    Kind(floods.pings),
    Kind(floods.long_pings, variant=True),
    Kind(floods.unasked_pongs),
    Kind(floods.long_pongs, variant=True),
    Kind(floods.pongs_after_its_own_close_frame),
    Kind(floods.pongs_after_the_nodes_close_frame, settings={"jwt_leeway_seconds": 0}),
    Kind(floods.heartbeats),
    Kind(floods.mistakes),
    Kind(floods.long_mistakes, variant=True),
    Kind(floods.unknown_types, variant=True),
    Kind(floods.binary_messages),
    Kind(floods.messages_just_small_enough),
    Kind(floods.messages_just_too_large, variant=True),
    Kind(floods.messages_at_the_limit_of_reading, variant=True),
    Kind(floods.messages_too_large_to_be_read),
    Kind(floods.deflate_bombs),
    Kind(floods.deflate_bombs_without_end, variant=True),
    Kind(floods.empty_deflate_blocks, variant=True),
    # Each of a thousand may hold a message, up to the 256 KiB that are read.
    Kind(floods.half_sent_frames, memory_mib=300),
    Kind(floods.frames_byte_by_byte),
    # -- requests (askers.py) --
    # What is replayed again has its price, so little of it is drawn.
    Kind(askers.replays_from_the_beginning, drawn_mib=32),
    Kind(askers.subscribing_and_leaving),
    Kind(askers.ever_other_channels),
    # A user may begin in 1,000 a day.
    Kind(askers.channels_without_a_message, keys=1_100),
    Kind(askers.denied_channels),
    Kind(askers.channels_of_others, variant=True),
    Kind(askers.acks),
    Kind(
        askers.subscribes_that_wait,
        settings={
            "client_message_burst": 200_000,
            "client_messages_per_second": 20_000,
            "max_subscriptions": 2,
        },
    ),
    # A hundred clients with a hundred subscriptions each: 10,000 of three KB, each in a channel of its own, which has a key for
    # who has begun there, and a key for where each of them is connected.
    Kind(askers.subscriptions_by_the_thousand, memory_mib=48, keys=10_200),
    Kind(askers.asking_who_is_there, settings=askers.ROOMS),
    Kind(askers.coming_and_going, settings=askers.ROOMS),
    Kind(askers.connecting_to_come_and_go, settings=askers.ROOMS),
    Kind(askers.refreshes_with_a_bad_token),
    Kind(askers.refreshes_with_a_valid_token),
    Kind(askers.reconnecting),
    # Each new connection is sent a page of the log; a user may begin 200 in ten seconds.
    Kind(askers.reconnecting_with_subscriptions, drawn_mib=128, redis_share=0.5, variant=True),
    # Room for the five that the user may hold, five that are being decided about, five that were silent and are being
    # closed, the bystander, and newcomers.
    Kind(askers.sixth_connections, settings={"max_connections": 20}),
    # A MiB may wait for each client, and what it has sent is not read on.
    Kind(askers.heartbeats_unread, memory_mib=32, settings=GENEROUS),
    Kind(askers.pings_unread, memory_mib=32, settings=GENEROUS),
    Kind(askers.messages_unread, settings=GENEROUS),
    Kind(askers.the_user_whose_id_is_a_star),
    # -- without a WebSocket (streamers.py) --
    Kind(streamers.event_streams_unread, settings=GENEROUS),
    Kind(streamers.polls_without_a_pause),
    Kind(streamers.words_for_other_streams),
    # The same without a WebSocket. For each that begins a page of the log is read, of which one answer takes a part.
    Kind(streamers.polls_begun_and_left, memory_mib=64, drawn_mib=128, variant=True),
    # Twenty answers of one user are kept, and no more.
    Kind(streamers.answers_to_polls_untaken, memory_mib=32, variant=True),
    Kind(streamers.bodies_that_never_come),
    # -- the HTTP API (callers.py) --
    # Each of ten may hold a body or a line of 2 MiB: 20 MiB beside what others may take.
    Kind(callers.bodies_without_end, beside=http_api, memory_mib=36),
    Kind(callers.lines_without_end, beside=http_api, memory_mib=36),
    Kind(callers.blank_lines_without_end, beside=http_api, variant=True),
    # A key has half of the thousand requests that may be under way. Each holds the 64 KiB that it has sent: 32 MiB in all, and
    # there are a thousand connections.
    Kind(callers.bodies_byte_by_byte, beside=http_api, memory_mib=64),
    Kind(callers.wrong_keys_by_the_thousand, beside=http_api),
    Kind(callers.keys_in_long_heads, beside=http_api, variant=True),
    # A backend may bring as many as its rate lets it, and this one has none: ten times a thousand.
    Kind(callers.idempotency_keys_by_the_thousand, beside=http_api, keys=10_100),
    Kind(callers.api_connections_that_are_held_open, beside=http_api),
    # Each of fifty may hold an answer of half a megabyte, as JSON and once more in the buffer of its socket: 50 MB.
    Kind(callers.answers_that_nobody_reads, beside=http_api, memory_mib=80),
    # -- both (nearly_right.py) --
    # Ten lines of each kind of refusal, and these are most of the kinds.
    Kind(nearly_right.heads_that_are_nearly_right, settings=EVER_AGAIN, log_kb=30),
    Kind(nearly_right.frames_that_are_nearly_right),
)
