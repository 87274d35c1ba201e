"""Every key and pub/sub channel in Redis. Nothing else in the project names one.

===================================  ==========  ========================================================
``rt1:log:{<channel>}``              sorted set  the log: score = id, member = entry (``message.py``)
``rt1:last:{<channel>}``             string      id of the newest message ever logged; outlives the log
``rt1:result:{<channel>}:<name>``    string      ``<id>:<nonce>`` of what was published under a name: a
                                                 keyed message's, or a try's whose answer was lost
``rt1:retention:{<channel>}``        string      ``<id> <max messages> <max age>``: the retention that a message
                                                 has brought along; it counts while that is the newest
``rt1:collapse:{<channel>}:<key>``   string      id of the newest message with this collapse key (a digest)
``rt1:removed:{<channel>}``          sorted set  the log's tombstones: score = id, member = entry (``message.py``)
``rt1:confirmed:{<channel>}``        sorted set  user -> id of the last message confirmed for them
``rt1:grant:{<channel>}``            sorted set  user, or everybody (``grants.py``) -> expiry (ms, Redis time)
``rt1:presence:{<channel>}``         sorted set  ``<node>/<user>`` -> until when the user is in the channel there (ms,
                                                 Redis time): only in namespaces with ``presence``
``rt1:presence-nodes:{<channel>}``   hash        user -> on how many nodes they are in the channel; where changes are announced
                                                 (``presence.lua``)
``rt1:presence-changes:{<channel>}`` pub/sub     who has come into the channel and left it (``presence.lua``)
``rt1:granted:{<channel>}``          pub/sub     to whom the channel was granted just now, as in ``rt1:grant``
``rt1:live:{<channel>}``             pub/sub     the same entries, as they are published; in a cluster
                                                 also what ends access to the channel (``control.py``)
``rt1:conn:{<user>}``                sorted set  ``<node>/<connection>`` -> lease expiry (ms, Redis time)
``rt1:before:{<user>}``              string      tokens of the user that were issued before this are revoked: seconds
                                                 since 1970, as text
``rt1:disconnected:{<user>}``        sorted set  ``<nonce>:<command without its end>`` -> when it ended the user's connections
                                                 (us, Redis time): the last hundred, of ten minutes
``rt1:entered:{<user>}``             sorted set  ``<node>/<connection>`` -> when it came (us, Redis time); only where
                                                 the oldest connection gives way
``rt1:replaced:{<user>}``            string      how many have given way in this minute
``rt1:revoked:{<digest>}``           string      there while the token is revoked whose ``jti`` has this digest
                                                 (``revocations.py``)
``rt1:lifetimes``                    hash        seconds that a token may live at most, or empty for no limit -> when a
                                                 gateway has announced it last, as in ``rt1:namespaces``
``rt1:nodes``                        sorted set  node -> lease expiry (ms, Redis time); ``/beat`` and
                                                 ``/grace``: see ``renew_node.lua``
``rt1:node:<node>``                  string      what the node says of itself (``node_report.py``), as long as its lease
``rt1:namespaces``                   hash        namespace -> its rules as JSON, written by the gateways, and
                                                 when (``announced``, seconds); five minutes later it is removed
``rt1:{scheduled}:waiting``          sorted set  id of a message that is to be published later -> when (ms)
``rt1:{scheduled}:publishing``       sorted set  the same of those that are being published, and cannot be cancelled
``rt1:{scheduled}:<id>``             string      such a message (``scheduling.py``)
``rt1:{scheduled}:taker``            string      the node that publishes them, as long as it looks
``rt1:events``                       stream      what has happened to users and their connections (``events.py``)
``rt1:reporting:{rt1:events}``       sorted set  node that tells of events -> lease expiry (ms, Redis time); ``/beat``:
                                                 see ``renew_reporter.lua``
``rt1:connected:{rt1:events}``         hash        user -> how many connections of theirs the events have told of
``rt1:connected:{rt1:events}:<node>``  hash        ``<node>/<connection>`` -> user; ``/batch``: see ``write_events.lua``
``rt1:awaited:{rt1:events}``         sorted set  owner's channel -> id of the first message there of which nobody has looked yet whether
                                                 the owner has confirmed it (``unconfirmed.py``)
``rt1:looking:{rt1:events}``         sorted set  the same of those that a node looks at now
``rt1:looker:{rt1:events}``          string      the node that does so, as long as it looks
``rt1:unconfirmed:{rt1:events}``     sorted set  owner's channel -> id of the message that was told last as unconfirmed; for an hour
``rt1:aside:{rt1:events}``           stream      events that a group could not handle, and why (``set_event_aside.lua``)
``rt1:marker``                       string      a random value; another one, or none, means that Redis has
                                                 lost its data
``rt1:control``                      pub/sub     commands to all nodes (``control.py``)
``rt1:answers:<node>``               pub/sub     what other nodes answer to a node's commands (``control.py``)
``rt1:probe:<node>:<n>``             pub/sub     a node hearing itself
===================================  ==========  ========================================================

The prefix is the version of this contract. All keys of a channel, and all of a user, share a hash tag, so that each
script touches one slot of a Redis Cluster; so do all that belong to the events. The tag begins at a key's first ``{`` and ends at the first ``}`` behind it, whatever the
channel's id holds. ``<name>`` holds letters, digits and dots only, so no two channels share a key. A tag that would be empty is none:
the keys of a user whose id begins with ``}`` are ``rt1:conn_:{u}:<user>`` and so on.

Redis's pub/sub knows no databases, so the names of pub/sub channels carry the database's number:
``rt1@3:live:{<channel>}`` belongs to database 3. Database 0 has the names above, as always.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

DEFAULT_PREFIX: Final = "rt1"
MAX_NODE_LEASE_SECONDS: Final = 60
MAX_PLACE_LEASE_SECONDS: Final = 900
"""No lease of a node, and of a connection's place, is longer. An expiry further ahead was written while the clock
of Redis was ahead, and is cut to an ordinary lease by the next call that sees it."""

_REMEMBERED: Final = 4_096
"""Channels whose names are kept by :meth:`Keys.of_channel`: about 1.5 MB."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The key names under one prefix, and the pub/sub names of one database.

    ``sharded``: in a cluster what is published of a channel goes to its shard alone (``SPUBLISH``, ``SSUBSCRIBE``).
    """

    prefix: str = DEFAULT_PREFIX
    database: int = 0
    sharded: bool = False
    _pubsub: str = field(init=False, repr=False, compare=False)
    _of_channel: dict[str, tuple[str, str, str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        pubsub = f"{self.prefix}@{self.database}" if self.database else self.prefix
        object.__setattr__(self, "_pubsub", pubsub)

    def below(self, name: str) -> Keys:
        """Names that only who knows ``name`` uses, all within what an ACL allows for these."""
        keys = Keys(f"{self.prefix}:{name}", self.database, self.sharded)
        object.__setattr__(keys, "_pubsub", f"{self._pubsub}:{name}")
        return keys

    @property
    def publish(self) -> str:
        """The command by which something of a channel is published."""
        return "SPUBLISH" if self.sharded else "PUBLISH"

    @property
    def subscribe(self) -> str:
        """The command by which that is listened to."""
        return "SSUBSCRIBE" if self.sharded else "SUBSCRIBE"

    def log(self, channel: str) -> str:
        return f"{self.prefix}:log:{{{channel}}}"

    def last(self, channel: str) -> str:
        return f"{self.prefix}:last:{{{channel}}}"

    def result(self, channel: str, name: str) -> str:
        return f"{self.prefix}:result:{{{channel}}}:{name}"

    def retention(self, channel: str) -> str:
        return f"{self.prefix}:retention:{{{channel}}}"

    def collapse(self, channel: str, digest: str) -> str:
        return f"{self.prefix}:collapse:{{{channel}}}:{digest}"

    def removed(self, channel: str) -> str:
        return f"{self.prefix}:removed:{{{channel}}}"

    def confirmed(self, channel: str) -> str:
        return f"{self.prefix}:confirmed:{{{channel}}}"

    def grant(self, channel: str) -> str:
        return f"{self.prefix}:grant:{{{channel}}}"

    def presence(self, channel: str) -> str:
        return f"{self.prefix}:presence:{{{channel}}}"

    def presence_nodes(self, channel: str) -> str:
        return f"{self.prefix}:presence-nodes:{{{channel}}}"

    def presence_changes(self, channel: str) -> str:
        return f"{self._pubsub}:presence-changes:{{{channel}}}"

    def granted(self, channel: str) -> str:
        return f"{self._pubsub}:granted:{{{channel}}}"

    def live(self, channel: str) -> str:
        return f"{self._pubsub}:live:{{{channel}}}"

    def heard(self, name: str) -> str:
        """The channel whose live or granted name this is; both end in it."""
        return name[name.index("{", len(self._pubsub)) + 1 : -1]

    def of_channel(self, channel: str) -> tuple[str, str, str]:
        """Its log, last id and live channel, which every publish needs: made once for many messages."""
        names = self._of_channel.get(channel)
        if names is None:
            # Threads may have passed the bound together.
            if len(self._of_channel) >= _REMEMBERED:
                self._of_channel.clear()
            names = self.log(channel), self.last(channel), self.live(channel)
            self._of_channel[channel] = names
        return names

    def connections(self, user: str) -> str:
        return self._of_user("conn", user)

    def before(self, user: str) -> str:
        return self._of_user("before", user)

    def disconnected(self, user: str) -> str:
        return self._of_user("disconnected", user)

    def entered(self, user: str) -> str:
        return self._of_user("entered", user)

    def replaced(self, user: str) -> str:
        return self._of_user("replaced", user)

    def _of_user(self, word: str, user: str) -> str:
        if user.startswith("}"):
            return f"{self.prefix}:{word}_:{{u}}:{user}"
        return f"{self.prefix}:{word}:{{{user}}}"

    def revoked(self, digest: str) -> str:
        return f"{self.prefix}:revoked:{{{digest}}}"

    @property
    def lifetimes(self) -> str:
        return f"{self.prefix}:lifetimes"

    @property
    def nodes(self) -> str:
        return f"{self.prefix}:nodes"

    def node(self, name: str) -> str:
        return f"{self.prefix}:node:{name}"

    @property
    def namespaces(self) -> str:
        return f"{self.prefix}:namespaces"

    @property
    def scheduled(self) -> str:
        return f"{self.prefix}:{{scheduled}}:waiting"

    @property
    def scheduled_publishing(self) -> str:
        return f"{self.prefix}:{{scheduled}}:publishing"

    @property
    def scheduled_taker(self) -> str:
        return f"{self.prefix}:{{scheduled}}:taker"

    def scheduled_message(self, identifier: str) -> str:
        return f"{self.prefix}:{{scheduled}}:{identifier}"

    @property
    def events(self) -> str:
        return f"{self.prefix}:events"

    @property
    def reporting(self) -> str:
        return self._of_events("reporting")

    @property
    def connected(self) -> str:
        return self._of_events("connected")

    def connected_at(self, node: str) -> str:
        return f"{self.connected}:{node}"

    @property
    def awaited(self) -> str:
        return self._of_events("awaited")

    @property
    def looking(self) -> str:
        return self._of_events("looking")

    @property
    def looker(self) -> str:
        return self._of_events("looker")

    @property
    def unconfirmed(self) -> str:
        return self._of_events("unconfirmed")

    @property
    def aside(self) -> str:
        return self._of_events("aside")

    def _of_events(self, word: str) -> str:
        return f"{self.prefix}:{word}:{{{self.events}}}"

    @property
    def marker(self) -> str:
        return f"{self.prefix}:marker"

    @property
    def control(self) -> str:
        return f"{self._pubsub}:control"

    def answers(self, node: str) -> str:
        return f"{self._pubsub}:answers:{node}"

    def probe(self, node: str) -> str:
        return f"{self._pubsub}:probe:{node}"
