"""What a plan is asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

DRAIN_SECONDS: Final = 15
"""Of a process, with the defaults of ``GATEWAY_DRAIN_DELAY_SECONDS`` and ``GATEWAY_DRAIN_SECONDS``."""
_MOST: Final = 1e12
_WHOLE: Final = {"connections", "cores", "primaries", "message_bytes"}
_MAY_BE_ZERO: Final = {
    "publishes",
    "subscribers",
    "hot_publishes",
    "channels",
    "kept_messages",
    "commands",
}


class InvalidLoad(ValueError):
    """A number that cannot be planned for; the message names the option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is to be carried, and with what.

    Attributes:
        connections: open at the same time.
        publishes: a second, to all channels together.
        subscribers: connections that each message goes to.
        hot_publishes: a second, to the busiest channel; ``None``: a hundredth of all.
        message_bytes: of a message's data, as JSON.
        window: seconds that a deploy may take.
        channels: that have a log in Redis; ``None``: as many as connections.
        kept_messages: in each log.
        commands: to all nodes, a second: revoked grants, and users at their limit of connections.
        cores: of a machine with gateways; it runs as many processes.
        primaries: of Redis; ``None``: as many as are needed.

    Raises:
        InvalidLoad: a number is out of bounds, or two contradict each other.
    """

    connections: int
    publishes: float
    subscribers: float = 1
    hot_publishes: float | None = None
    message_bytes: int = 200
    window: float = 600
    channels: float | None = None
    kept_messages: float = 10
    commands: float = 1
    cores: int = 4
    primaries: int | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None:
                _check(each.name, value)
        if self.subscribers > self.connections:
            raise InvalidLoad(
                f"--subscribers: a message cannot go to more connections ({self.subscribers:,.0f}) "
                f"than there are (--connections {self.connections:,})"
            )
        if self.hot_publishes is not None and self.hot_publishes > self.publishes:
            raise InvalidLoad(
                f"--hot-publishes: one channel cannot get more ({self.hot_publishes:,.0f} a second) "
                f"than all together (--publishes {self.publishes:,.0f})"
            )
        if self.window <= DRAIN_SECONDS:
            raise InvalidLoad(
                f"--window: must be more than {DRAIN_SECONDS} seconds, which one machine takes to drain"
            )

    @property
    def busiest(self) -> float:
        """Messages a second to the busiest channel."""
        return self.publishes / 100 if self.hot_publishes is None else self.hot_publishes

    @property
    def logs(self) -> float:
        """Channels that are kept."""
        return self.connections if self.channels is None else self.channels

    @property
    def deliveries(self) -> float:
        """Messages a second to all connections together."""
        return self.publishes * self.subscribers


def option_of(name: str) -> str:
    """The option of the command that gives this attribute of a :class:`Load`."""
    return f"--{name.replace('_', '-')}"


def _check(name: str, value: float) -> None:
    option = option_of(name)
    if name in _WHOLE and value != int(value):
        raise InvalidLoad(f"{option}: must be a whole number, not {value:g}")
    least = "0 or more" if name in _MAY_BE_ZERO else "more than 0"
    if value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
        raise InvalidLoad(f"{option}: must be {least}, not {value:g}")
    if not value <= _MOST:
        raise InvalidLoad(f"{option}: must be at most {_MOST:g}, not {value:g}")
