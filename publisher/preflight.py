"""What a client asks Redis before it writes: the gateways' namespaces, the clock, and its own rights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from publisher.contract import rights
from publisher.contract.calls import Call, Command, Reply, pairs_of
from publisher.contract.channels import DEFAULT_NAMESPACES, Channel, Namespace, Retention
from publisher.contract.grants import Grantee
from publisher.contract.keys import Keys
from publisher.errors import (
    GrantWithoutEffect,
    InvalidData,
    InvalidInput,
    Rejected,
    Unavailable,
    UnknownNamespace,
)
from publisher.retrying import Failures, Retries, again, log, once, without_effect
from publisher.transport.failures import code, meaning
from publisher.transport.flows import Flow, Owners, round_trips
from publisher.transport.redis_py import Host

Use: TypeAlias = Callable[[Keys], Sequence[Command]]
"""One of ``contract.rights``: commands that a kind of call needs."""

_FRESH_SECONDS: Final = 60.0
_ASKED_AGAIN_SECONDS: Final = 10.0
_SHARED_SECONDS: Final = 0.1
"""So long a try that has failed counts for all calls that wait for an answer to the same question."""
_SKEW_US: Final = 10_000
"""By so much the clocks of servers may differ that take over from each other, or share the keys: the one that was asked
is not the one that gives the ids."""
_DRIFT: Final = 0.001
"""Seconds by which two clocks may move apart in a second, more than any two do."""


@dataclass(frozen=True, slots=True)
class RedisClock:
    """What the clock of Redis ``showed``, in microseconds, when it was ``read_at`` this time of ours; or a little less."""

    read_at: float
    showed: int

    def at(self, moment: float) -> int:
        """What it showed, or shows, at ``moment`` of ours, or a little less."""
        passed = moment - self.read_at
        return self.showed + int((passed - _DRIFT * max(0.0, passed)) * 1_000_000)


class _Failed(NamedTuple):
    """A try that was not answered, and the call that made it."""

    error: Unavailable
    call: Failures
    at: float


class Preflight:
    """Belongs to one client. ``redis_clock`` is as it was read last.

    Args:
        clock: a monotonic clock in seconds.
        known: the namespaces that there are as long as no gateway has announced any.
        learnt_at: when, by ``clock``, ``known`` was learnt.
        seals: what was once learnt to be encrypted stays so, since the client has keys. Gateways that do not say so are
            older, or forgotten: what is published meanwhile must not be readable.
    """

    def __init__(
        self,
        keys: Keys,
        clock: Callable[[], float],
        retries: Retries,
        known: Mapping[str, Namespace] = DEFAULT_NAMESPACES,
        learnt_at: float = float("-inf"),
        *,
        seals: bool = False,
    ) -> None:
        self.namespaces = known
        self.redis_clock = RedisClock(0.0, 0)
        self._keys = keys
        self._clock = clock
        self._retries = retries
        self._learnt_at = learnt_at
        self._seals = seals
        self._sealed: set[str] = set()
        self._allowed: set[Use | tuple[Use, Host]] = set()
        self._asked_at = float("-inf")
        self._failed: _Failed | None = None

    def now(self) -> int:
        """What the clock of Redis shows, in microseconds, or a little less."""
        return self.redis_clock.at(self._clock())

    def namespace(self, name: str) -> Namespace:
        """The rules of a namespace.

        Raises:
            UnknownNamespace: no gateway has it, as far as is known.
        """
        # Read once: another thread may learn others meanwhile.
        known = self.namespaces
        if name not in known:
            raise UnknownNamespace(name, known)
        return known[name]

    def retention(self, name: str) -> Retention | None:
        """What is kept of the logs of a namespace; ``None`` where that is not known."""
        namespace = self.namespaces.get(name)
        return namespace.retention if namespace else None

    def encrypts(self, name: str) -> bool:
        """Whether a namespace is known to be encrypted."""
        namespace = self.namespaces.get(name)
        return namespace is not None and namespace.encrypted

    def check_presence(self, name: str) -> Flow[None]:
        """Whether nodes note who is in the channels of a namespace.

        Raises:
            UnknownNamespace: no gateway has it, as far as is known.
            InvalidData: they do not.
        """
        yield from self.refresh({name})
        if self.namespace(name).presence is None:
            # It may have been switched on since the rules were learnt.
            yield from self.refresh({name}, fresh_seconds=0.0)
            if self.namespace(name).presence is None:
                raise InvalidData(
                    f'namespace {name!r} has no presence: give it "presence": true in GATEWAY_NAMESPACES'
                )

    def check_effect(self, channel: Channel, user: Grantee, *, let_in: bool) -> Flow[None]:
        """Whether the channel's namespace lets a grant (``let_in``), or its end, decide about ``user``.

        Where the rule itself does so already, nothing is wrong. About an unknown namespace nothing is said.

        Raises:
            GrantWithoutEffect: the rule decides otherwise.
        """
        yield from self.refresh({channel.namespace})
        if self._decides_otherwise(channel, user, let_in):
            # The rule may have been changed since it was learnt.
            yield from self.refresh({channel.namespace}, fresh_seconds=0.0)
            if rules := self._decides_otherwise(channel, user, let_in):
                raise GrantWithoutEffect(channel.name, rules.owner.value)

    def _decides_otherwise(self, channel: Channel, user: Grantee, let_in: bool) -> Namespace | None:
        """The rules of the channel's namespace, where they decide otherwise."""
        rules = self.namespaces.get(channel.namespace)
        if rules is None or rules.owner.lets_in(channel, user) is not (not let_in):
            return None
        return rules

    def refresh(self, named: set[str], fresh_seconds: float = _FRESH_SECONDS) -> Flow[None]:
        """Ask once in ``fresh_seconds``, and when a namespace is ``named`` that is not known."""
        fresh = self._clock() - self._learnt_at < fresh_seconds
        if fresh and named <= self.namespaces.keys():
            return
        calls = [Call(("HGETALL", self._keys.namespaces)), Call(("TIME",))]
        if self._can_go_on(named) and fresh_seconds:
            if self._clock() - self._asked_at < _ASKED_AGAIN_SECONDS:
                return
            self._asked_at = self._clock()
            try:
                announced, (seconds, microseconds) = yield from once(calls)
            except Unavailable as error:
                self._retries.tell(error)
                return
        else:
            replies = yield from self._ask(calls)
            if replies is None:
                # Whatever it was told, it had asked before this call needed to know.
                yield from self.refresh(named, fresh_seconds)
                return
            announced, (seconds, microseconds) = replies
        # Without an announcement what is known stays: Redis may have lost its data.
        self.namespaces = self._with_seals(_namespaces(announced)) or self.namespaces
        self._learnt_at = self._clock()
        # The answer was some time on its way, so this is rather too little than too much.
        skew = _SKEW_US if self._retries.other_servers else 0
        showed = int(seconds) * 1_000_000 + int(microseconds) - skew
        self.redis_clock = RedisClock(self._learnt_at, showed)

    def _with_seals(self, announced: dict[str, Namespace]) -> dict[str, Namespace]:
        if not self._seals:
            return announced
        self._sealed |= {name for name, each in announced.items() if each.encrypted}
        return {
            name: replace(each, encrypted=each.encrypted or name in self._sealed)
            for name, each in announced.items()
        }

    def _ask(self, calls: Sequence[Call]) -> Flow[list[Reply] | None]:
        """Ask until there is an answer; ``None`` if another call has had one meanwhile.

        Raises:
            Unavailable: there was none at any try.
        """
        failures, began = Failures(self._retries), self._clock()
        refusal: Unavailable | None = None
        while refusal is None or self._learnt_at <= began:
            # The first try is the call's own.
            if refusal is None or not self._has_another_failed(failures):
                try:
                    return (yield from once(calls))
                except Unavailable as error:
                    self._failed = _Failed(error, failures, self._clock())
            assert self._failed is not None
            refusal = self._failed.error
            pause = failures.add(refusal)
            if pause is None or not refusal.retryable:
                raise self._without_namespaces(refusal) from refusal.__cause__
            yield pause
        return None

    def _has_another_failed(self, call: Failures) -> bool:
        """Whether another call was not answered just now. Of many that wait for another server not each has to ask."""
        last = self._failed
        if last is None or last.call is call or not self._retries.other_servers:
            return False
        return self._clock() - last.at < _SHARED_SECONDS

    def _without_namespaces(self, error: Unavailable) -> Unavailable:
        """In a cluster they are most often at another primary than the channel that the call is about."""
        if not self._keys.sharded or not error.retryable:
            return error.told(maybe_sent=False)
        reason = (
            f"{error.reason.rstrip('.')}; the namespaces, which this publisher has to ask for, are kept there "
            f"({self._keys.namespaces}): start that server again, or let a replica take over"
        )
        return Unavailable(reason, maybe_sent=False, server=error.server)

    def _can_go_on(self, named: set[str]) -> bool:
        """Whether the shard of a cluster that has the announcement may be down for a while."""
        learnt = self._learnt_at > float("-inf")
        return self._keys.sharded and learnt and named <= self.namespaces.keys()

    def check_rights(self, use: Use) -> Flow[None]:
        """Before the first use: whether an ACL forbids anything it needs.

        Raises:
            Rejected: it does; the reason names what is missing.
            Unavailable: Redis did not answer.
        """
        if use in self._allowed:
            return
        yield from again(partial(self._try_rights, use), self._retries)
        self._allowed.add(use)

    def check_rights_of(self, use: Use, key: str) -> Flow[None]:
        """The same before calls with this key: in a cluster, where each primary has an ACL of its own, at the one that has it."""
        if self._keys.sharded:
            yield from again(partial(self._check_at_owner, use, key), self._retries)
        else:
            yield from self.check_rights(use)

    def _check_at_owner(self, use: Use, key: str) -> Flow[None]:
        (host,) = yield Owners((key,))
        yield from self.check_rights_at(use, host)

    def check_rights_at(self, use: Use, host: Host | None) -> Flow[None]:
        """The same at one primary of a cluster, which is asked once; ``None``: nobody has the slot."""
        if host is None:
            raise Unavailable("no server has the slot, as far as is known", maybe_sent=False)
        if (use, host) not in self._allowed:
            yield from self._try_rights(use, host)
            self._allowed.add((use, host))

    def _try_rights(self, use: Use, host: Host | None = None) -> Flow[None]:
        """A server of a cluster looks at rights before it looks at slots."""
        commands = use(self._keys)
        calls = list(map(Call, commands))
        self._judge(commands, (yield from without_effect(round_trips(calls, at=host))))

    def _judge(self, commands: Sequence[Command], replies: Sequence[Reply]) -> None:
        refused = (
            (command, str(reply))
            for command, reply in zip(commands, replies, strict=True)
            if code(reply) == "NOPERM"
        )
        if not self._keys.sharded:
            for reply in replies:
                if code(reply) == "CROSSSLOT":
                    raise meaning(reply)
        missing = rights.missing(self._keys, refused)
        if missing:
            reason = (
                f"the Redis user lacks {' '.join(missing)}; `gateway acl` prints the whole line"
            )
            raise Rejected(reason, maybe_sent=False)


def _namespaces(reply: Reply) -> dict[str, Namespace]:
    """Read the gateways' announcement, without what a newer gateway may have added to it."""
    found: dict[str, Namespace] = {}
    for key, rules in pairs_of(reply):
        try:
            name = key.decode()
            names = "owner", "retention", "encrypted", "presence", "unconfirmed"
            known = _only(orjson.loads(rules), *names)
            if isinstance(limits := known.get("retention"), dict):
                known["retention"] = _only(limits, "max_messages", "max_age_seconds")
            if isinstance(told := known.get("presence"), dict):
                known["presence"] = _only(told, "announce", "max_members")
            found[name] = Namespace.from_dict(name, known)
        except (InvalidInput, ValueError, TypeError):
            log.warning("namespace_unreadable name=%r rules=%r", key, rules)
    return found


def _only(rules: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: rules[name] for name in names if name in rules}
