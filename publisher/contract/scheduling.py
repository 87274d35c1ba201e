r"""How a message is kept in Redis that is to be published later.

::

    1\n<channel>\n<how>\n<limits>\n<collapse key>\n<nonce, "/" and traceparent, "+" and extension>\n<body>

``how``, ``limits`` and what follows are as ``publish.lua`` takes them. It has an idempotency key always: whoever publishes it
may do so twice, and it is in the log once.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from publisher.contract import scripts
from publisher.contract.calls import Call, further_keys
from publisher.contract.keys import Keys

_FORM: Final = b"1"
_ID: Final = re.compile(r"[0-9a-f]{32}")


def is_id(text: str) -> bool:
    """Whether a scheduled message may have this id."""
    return _ID.fullmatch(text) is not None


def channel_of(kept: bytes) -> str:
    """The channel of a message as it is kept, in whatever form the rest is."""
    return kept.split(b"\n", 2)[1].decode()


class Planned(NamedTuple):
    """A message as it will be published. ``collapse`` is its collapse key's digest, empty where it has none."""

    channel: str
    how: str
    limits: str
    collapse: str
    nonce: str
    body: bytes

    def encode(self) -> bytes:
        """As it is kept."""
        # No channel holds a control character.
        return b"\n".join([_FORM, *(each.encode() for each in self[:-1]), self.body])

    @classmethod
    def decode(cls, kept: bytes) -> Planned:
        """Read what is kept.

        Raises:
            ValueError: it was not written by this package, or by a later version.
        """
        form, channel, how, limits, collapse, nonce, body = kept.split(b"\n", 6)
        if form != _FORM:
            raise ValueError(f"the form {form!r} is not known")
        return cls(
            channel.decode(), how.decode(), limits.decode(), collapse.decode(), nonce.decode(), body
        )

    def call(self, keys: Keys) -> Call:
        """Publish it."""
        nonce = self.nonce.partition("+")[0].partition("/")[0]
        log, last, live = keys.of_channel(self.channel)
        further = further_keys(keys, self.channel, self.how, nonce, self.collapse)
        names = [keys.result(self.channel, nonce), log, last, *further]
        script = scripts.PUBLISH_SHARDED if keys.sharded else scripts.PUBLISH
        return Call.run(script, names, "1", self.how, self.limits, live, self.nonce, self.body)
