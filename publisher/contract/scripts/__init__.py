"""The Lua scripts, each in a file whose head names its KEYS, ARGV and reply."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the name under which Redis caches it (``EVALSHA``)."""

    name: str
    text: str = field(repr=False)
    sha: str


def _load(name: str) -> Script:
    text = (files(__name__) / f"{name}.lua").read_text("utf-8")
    return Script(name, text, _sha(text))


def _sha(text: str) -> str:
    # Redis names scripts by SHA-1 (EVALSHA); nothing secret rests on it.
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _sharded(script: Script, *publishes: str) -> Script:
    """The same for a cluster, where channels' messages go to the one shard that has the channel, and the events are elsewhere."""
    text = script.text.replace("string.find(how, 'u', 1, true)", "nil")
    for publish in publishes:
        text = text.replace(f"('PUBLISH', {publish}", f"('SPUBLISH', {publish}")
    return Script(script.name, text, _sha(text))


PUBLISH = _load("publish")
PUBLISH_SHARDED = _sharded(PUBLISH, "ARGV[argument], entry")
SETTLE = _load("settle")
READ = _load("read")
ANNOUNCE = _load("announce")
CONFIRM = _load("confirm")
RAISE_LAST = _load("raise_last")
ACQUIRE = _load("acquire")
RELEASE = _load("release")
RENEW = _load("renew")
RENEW_NODE = _load("renew_node")
LIVE_NODES = _load("live_nodes")
EXISTING = _load("existing")
GRANT = _load("grant")
GRANT_SHARDED = _sharded(GRANT, "ARGV[5]", "ARGV[6]")
GRANTED = _load("granted")
PRESENCE = _load("presence")
PRESENCE_SHARDED = _sharded(PRESENCE, "ARGV[4]")
PRESENT = _load("present")
CONNECTIONS = _load("connections")
DISCONNECT = _load("disconnect")
REVOKE_TOKEN = _load("revoke_token")
REVOKE_TOKENS = _load("revoke_tokens")
PRUNE = _load("prune")
PAGE = _load("page")
DELETE = _load("delete")
SCHEDULE = _load("schedule")
CANCEL = _load("cancel")
DUE = _load("due")
POSTPONE = _load("postpone")
FINISH_SCHEDULED = _load("finish_scheduled")
RELEASE_LEASE = _load("release_lease")
WRITE_EVENTS = _load("write_events")
RENEW_REPORTER = _load("renew_reporter")
END_REPORTER = _load("end_reporter")
TAKE_EVENTS = _load("take_events")
SET_EVENT_ASIDE = _load("set_event_aside")
TAKE_AWAITED = _load("take_awaited")
FIND_UNCONFIRMED = _load("find_unconfirmed")
TELL_UNCONFIRMED = _load("tell_unconfirmed")
