"""Everything the publisher raises, one tree.

::

    PublisherError
    ├── InvalidInput           nothing was sent; mend the call
    │   ├── InvalidChannel
    │   ├── InvalidNamespace
    │   ├── UnknownNamespace
    │   ├── GrantWithoutEffect
    │   ├── InvalidData
    │   ├── InvalidURL
    │   ├── NoRedis            of ``redis_address``: nothing says where Redis is
    │   └── MessageTooLarge
    └── Unavailable            Redis did not answer; ``maybe_sent`` says what is known
        ├── Rejected           it answered with an error that trying again does not mend
        └── NotReplicated      it has published, too few replicas have confirmed it

Task queues send errors between processes: by pickle, or as the class's name and ``args`` in JSON (Celery). So
each error's ``args`` are what its class is called with, plain values in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Self


class PublisherError(Exception):
    """Root of all errors of this package.

    ``retryable``: the same call may succeed later. ``maybe_sent``: the call may have taken effect (the
    message may have been published) although it failed; ``False`` means that it certainly has not.
    """

    retryable: bool = False
    maybe_sent: bool = False


class InvalidInput(PublisherError, ValueError):
    """The call's arguments are wrong; nothing was sent to Redis."""


class InvalidChannel(InvalidInput):
    """The channel name does not have the form ``<namespace>/<id>``."""

    form: ClassVar[str] = (
        "<namespace>/<id> of at most 255 bytes in UTF-8: the namespace of ASCII letters, digits and . _ : @ -, "
        "the id of any characters but control characters"
    )

    def __init__(self, channel: object) -> None:
        self.channel = channel
        super().__init__(channel)

    def __str__(self) -> str:
        return f"invalid channel {self.channel!r}: expected {self.form}"


class InvalidNamespace(InvalidInput):
    """A namespace's definition cannot be used."""


class UnknownNamespace(InvalidInput):
    """No namespace of that name is configured at the gateway."""

    def __init__(self, namespace: str, known: Iterable[str]) -> None:
        self.namespace = namespace
        self.known = tuple(sorted(known))
        super().__init__(namespace, self.known)

    def __str__(self) -> str:
        return (
            f"unknown namespace {self.namespace!r}: configured are {', '.join(self.known)}; "
            "add it to GATEWAY_NAMESPACES and restart the gateways"
        )


class GrantWithoutEffect(InvalidInput):
    """Grants do not decide who may subscribe to the channel: the namespace's ``owner`` rule does."""

    _let_in: ClassVar[Mapping[str, str]] = {
        "user": "only the user whose id is the channel's id",
        "anyone": "every authenticated user",
    }

    def __init__(self, channel: str, owner: str) -> None:
        self.channel = channel
        self.owner = owner
        super().__init__(channel, owner)

    def __str__(self) -> str:
        return (
            f"grants have no effect on {self.channel!r}: by its namespace's owner rule {self.owner!r} "
            f"{self._let_in[self.owner]} may subscribe; what is granted and revoked needs a namespace with the "
            "rule 'grant', such as run-results"
        )


class InvalidData(InvalidInput):
    """The data cannot be written as JSON, or another argument has an impossible value."""


class InvalidURL(InvalidInput):
    """The URL of Redis cannot be used; ``problem`` says which part of it. It may hold a password, so no part is repeated."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)

    def __str__(self) -> str:
        return f"invalid Redis URL: {self.problem}"


class MessageTooLarge(InvalidInput):
    """The data's JSON is longer than the publisher's ``max_message_bytes``."""

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(size, limit)

    def __str__(self) -> str:
        return (
            f"message of {self.size} bytes is over the limit of {self.limit}; send a reference to "
            "large data"
        )


class Unavailable(PublisherError):
    """Redis could not be reached, or did not answer in time.

    ``maybe_sent`` is ``True`` when a command had left and no answer came back. Where the call had an
    ``idempotency_key``, repeating it with the same key cannot duplicate the message. ``server`` is the address of the
    server that did not answer; empty where that is not known, or where there was an answer.
    """

    retryable = True
    _problem: ClassVar[str] = "Redis is unavailable"

    def __init__(self, reason: str, maybe_sent: bool, server: str = "") -> None:
        self.reason = reason
        self.maybe_sent = maybe_sent
        self.server = server
        super().__init__(reason, maybe_sent, server)

    def __str__(self) -> str:
        effect = "may have taken effect" if self.maybe_sent else "had no effect"
        named = self.server in self.reason
        reason = self.reason if named else f"{self.server}: {self.reason}"
        return f"{self._problem} ({reason}); the call {effect}"

    def name(self, server: str) -> None:
        """Note which server has not answered."""
        self.server = server
        self.args = (self.reason, self.maybe_sent, server)

    def told(self, *, maybe_sent: bool) -> Self:
        """The same failure with what is known after all tries, as an error of its own to raise."""
        error = type(self)(self.reason, maybe_sent, self.server)
        error.__cause__ = self.__cause__
        return error


class Rejected(Unavailable):
    """Redis answered with an error that trying again does not mend, such as a missing permission."""

    retryable = False
    _problem = "Redis rejected the call"


class NotReplicated(Unavailable):
    """The message is published (``id``, ``channel``, ``duplicate``), but on fewer replicas than asked for.

    It is in the primary's log and was delivered live. Should the primary fail before more than
    ``replicas`` have it, it may be lost from the log; ``min_replicas`` were asked for. Calling again
    with the same ``idempotency_key`` waits for them again and publishes nothing twice; without a key a
    second call is a second message.
    """

    def __init__(
        self,
        reason: str,
        id: int,
        channel: str,
        duplicate: bool,
        replicas: int,
        min_replicas: int,
        retryable: bool = True,
    ) -> None:
        super().__init__(reason, maybe_sent=True)
        self.id = id
        self.channel = channel
        self.duplicate = duplicate
        self.replicas = replicas
        self.min_replicas = min_replicas
        self.retryable = retryable
        self.args = (reason, id, channel, duplicate, replicas, min_replicas, retryable)

    def __str__(self) -> str:
        told = f"message {self.id} of {self.channel} is published, but only {self.replicas}"
        return f"{told} of {self.min_replicas} replicas have it ({self.reason})"

    def told(self, *, maybe_sent: bool) -> Self:
        """The same: it is certain that the message is out."""
        assert maybe_sent
        return self
