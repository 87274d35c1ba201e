"""The audit log of a publisher: what access it has given and taken, on whose behalf, and what became of it.

Each line of the logger ``publisher.audit`` is a JSON object. Where nobody takes its lines (INFO), none is made.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from publisher.contract.grants import Everybody
from publisher.errors import PublisherError
from publisher.transport.flows import Flow, T

_DONE: Final = "done"
_CANCELLED: Final = "cancelled"

lines = logging.getLogger("publisher.audit")


def audited(flow: Flow[T], event: str, actor: str | None, fields: Mapping[str, Any]) -> Flow[T]:
    """Take a flow, and tell what became of it: ``done``, the name of the error that it raises, or ``cancelled`` where its
    caller waits no more.
    """
    try:
        result = yield from flow
    except PublisherError as error:
        _tell(event, actor, fields, type(error).__name__, maybe_sent=error.maybe_sent or None)
        raise
    except BaseException:
        _tell(event, actor, fields, _CANCELLED, maybe_sent=True)
        raise
    _tell(event, actor, fields, _DONE)
    return result


def _tell(
    event: str,
    actor: str | None,
    fields: Mapping[str, Any],
    outcome: str,
    maybe_sent: bool | None = None,
) -> None:
    if not lines.isEnabledFor(logging.INFO):
        return
    user = fields.get("user")
    told = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event": event,
        **fields,
        "actor": actor,
        "outcome": outcome,
        "maybe_sent": maybe_sent,
    }
    if isinstance(user, Everybody):
        told |= {"user": None, "everybody": True}
    text = json.dumps({k: v for k, v in told.items() if v is not None}, default=_shown)
    lines.info("%s", text)


def _shown(value: object) -> object:
    """A moment as seconds since 1970. What else is no JSON was refused, and is told as Python shows it."""
    return value.timestamp() if isinstance(value, datetime) else repr(value)
