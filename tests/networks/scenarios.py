"""What happens to the network, and what is measured then.

Each scenario leaves the network as it found it. An outage is measured from the moment at which packets pass again to the
first message that each client receives: one that was published meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.networks.clients import Asleep
from tests.networks.lab import Lab
from tests.networks.line import FAIR, SILENT, Weather
from tests.networks.stage import Stage

Outage = Callable[[Lab], contextlib.AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Scenario:
    """``measured``: what the figures are about; ``play`` gives seconds by the kind of the clients."""

    name: str
    told: str
    play: Callable[[Stage], Awaitable[dict[str, list[float]]]]


SCENARIOS: Final[list[Scenario]] = []


def _outage(name: str, told: str, seconds: float, times: int, outage: Outage) -> None:
    async def play(stage: Stage) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for _ in range(times):
            await stage.all_have(await stage.publish())
            async with outage(stage.lab):
                await asyncio.sleep(seconds / 2)
                missed = await stage.publish()
                await asyncio.sleep(seconds / 2)
            back = time.time()
            await stage.come_back(missed)
            for clients in stage.clients:
                late = [at - back for at in stage.arrived(clients, missed)]
                never = [math.inf] * (len(clients.users) - len(late))
                found.setdefault(clients.kind, []).extend([*late, *never])
        return found

    SCENARIOS.append(Scenario(name, told, play))


def _weather(name: str, told: str, weather: Weather, messages: int, every: float) -> None:
    async def play(stage: Stage) -> dict[str, list[float]]:
        await stage.all_have(await stage.publish())
        found: dict[str, list[float]] = {}
        stage.lab.line.weather = weather
        try:
            published: dict[int, float] = {}
            for _ in range(messages):
                published[await stage.publish()] = time.time()
                await asyncio.sleep(every)
            for number, at in published.items():
                await stage.all_have(number)
                for clients in stage.clients:
                    late = [came - at for came in stage.arrived(clients, number)]
                    found.setdefault(clients.kind, []).extend(late)
        finally:
            stage.lab.line.weather = FAIR
        return found

    SCENARIOS.append(Scenario(name, told, play))


# -- outages ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _unplugged(lab: Lab) -> AsyncIterator[None]:
    lab.unplug()
    yield
    lab.plug()


@contextlib.asynccontextmanager
async def _silent(lab: Lab) -> AsyncIterator[None]:
    lab.line.weather = SILENT
    yield
    lab.line.weather = FAIR


@contextlib.asynccontextmanager
async def _moved(lab: Lab) -> AsyncIterator[None]:
    lab.line.weather = SILENT
    yield
    lab.move()
    lab.line.weather = FAIR


@contextlib.asynccontextmanager
async def _asleep(lab: Lab) -> AsyncIterator[None]:
    lab.line.weather = SILENT
    with Asleep(lab):
        yield
        lab.line.weather = FAIR


@contextlib.asynccontextmanager
async def _portal(lab: Lab) -> AsyncIterator[None]:
    lab.line.diverted = True
    yield
    lab.line.diverted = False


_outage("unplugged", "no network for 15 s, and the system says so", 15, 4, _unplugged)
_outage("silent", "no packet for 15 s, and nobody says so", 15, 4, _silent)
_outage("silent-long", "no packet for 90 s, and nobody says so", 90, 2, _silent)
_outage("moved", "another network, with another address, 2 s later", 2, 4, _moved)
_outage("portal", "a captive portal answers for 30 s", 30, 3, _portal)
_outage("asleep", "the device sleeps for five minutes", 300, 1, _asleep)

# -- bad lines ----------------------------------------------------------------------------------

_weather("loss-2", "2 % of the packets are lost, 50 ms each way", Weather(0.05, 0.02), 40, 0.5)
_weather("loss-10", "10 % are lost, 50 ms each way", Weather(0.05, 0.1), 40, 0.5)
_weather("far", "1 s each way", Weather(1.0), 20, 0.5)
_weather("slow", "20 KB/s for all of them together", Weather(0.05, rate=20_000), 20, 2.0)


async def _idle(stage: Stage) -> dict[str, list[float]]:
    """Two minutes without a message."""
    await stage.all_have(await stage.publish())
    stage.forget_traffic()
    await asyncio.sleep(120)
    return {}


SCENARIOS.append(Scenario("idle", "two minutes without a message", _idle))
