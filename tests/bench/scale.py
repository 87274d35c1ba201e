"""How much of everything is done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of the loads. What is measured several times is reported as the median."""

    rounds: int = 3

    sockets: int = 2_000
    message_bytes: int = 200
    paced_messages: int = 100
    interval: float = 0.05
    burst_messages: int = 300

    large_bytes: int = 4_096
    large_messages: int = 40

    channels: int = 2_000
    steady_rate: int = 2_000
    steady_seconds: float = 5.0
    full_messages: int = 40_000
    latency_seconds: float = 4.0

    crowd: tuple[int, ...] = (1_000, 5_000, 10_000)
    idle_seconds: float = 60.0
    """The pings' interval is 30 s and that of renewing the places 60 s: a whole number of both."""

    storm_clients: int = 5_000
    storm_replay: int = 3

    many_connections: tuple[int, int] = (1_000, 5_000)
    many_workers: int = 4
    many_broadcasts: int = 10
    many_interval: float = 1.0

    many_logs: int = 100_000
    many_log_messages: int = 3

    publishes: int = 20_000
    single_publishes: int = 2_000

    settle_seconds: float = 1.5
    """Also measured after a load: the last question whether all has arrived comes a second later."""


FULL = Scale()

TINY = Scale(
    rounds=1,
    sockets=50,
    paced_messages=5,
    interval=0.01,
    burst_messages=20,
    large_messages=5,
    channels=50,
    steady_rate=200,
    steady_seconds=0.2,
    full_messages=500,
    latency_seconds=0.2,
    crowd=(20, 50),
    idle_seconds=0.5,
    storm_clients=50,
    many_connections=(20, 40),
    many_workers=2,
    many_broadcasts=2,
    many_interval=0.02,
    many_logs=200,
    many_log_messages=2,
    publishes=500,
    single_publishes=50,
    settle_seconds=0.2,
)
"""Seconds for everything, to see that the benchmark itself works; its figures say nothing."""
