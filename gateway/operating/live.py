"""``gateway top`` in a terminal: asks again and again, draws, and listens to keys and signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from rich.console import Console, ConsoleDimensions
from rich.live import Live

from gateway.operating.keyboard import Keyboard
from gateway.operating.screen import screen
from gateway.operating.watched import Watched
from publisher import Node, Rejected, Unavailable

_END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Ask = Callable[[], Awaitable[Sequence[Node]]]


async def show(ask: Ask, every: float, clock: Callable[[], float]) -> None:
    """Show the nodes on a screen of their own, until q or a signal.

    Args:
        ask: for the nodes.
        every: seconds between two answers and the next question.
        clock: monotonic, in seconds.

    Raises:
        Rejected: Redis refuses the first question. Later on, and where it does not answer, that is shown.
    """
    watched, ended = Watched(), asyncio.Event()
    await _ask(ask, watched, clock, first=True)
    with _display(watched, clock, ended) as draw:
        asking = asyncio.create_task(_ask_again(ask, every, watched, clock, draw))
        ending = asyncio.create_task(ended.wait())
        await asyncio.wait([asking, ending], return_when=asyncio.FIRST_COMPLETED)
        for task in (asking, ending):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking


async def _ask(ask: Ask, watched: Watched, clock: Callable[[], float], *, first: bool) -> None:
    try:
        watched.found(await ask(), clock())
    except Unavailable as error:
        if first and isinstance(error, Rejected):
            raise
        watched.failed(str(error))


async def _ask_again(
    ask: Ask, every: float, watched: Watched, clock: Callable[[], float], draw: Callable[[], None]
) -> None:
    while True:
        draw()
        await asyncio.sleep(every)
        await _ask(ask, watched, clock, first=False)


@contextlib.contextmanager
def _display(
    watched: Watched, clock: Callable[[], float], ended: asyncio.Event
) -> Iterator[Callable[[], None]]:
    """A screen of its own until the block ends; gives what draws it."""
    loop, console, keyboard = asyncio.get_running_loop(), Console(), Keyboard(0)
    live = Live(
        console=console,
        screen=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )

    def draw() -> None:
        # COLUMNS and LINES, which rich prefers, do not follow a terminal that is resized.
        with contextlib.suppress(OSError):
            console.size = ConsoleDimensions(*os.get_terminal_size(console.file.fileno()))
        live.update(screen(watched, clock(), console.width, console.height), refresh=True)

    def suspend() -> None:
        live.stop()
        keyboard.stop()
        os.kill(os.getpid(), signal.SIGSTOP)
        # Here it goes on when it is in the foreground again.
        keyboard.start()
        live.start()
        draw()

    def press() -> None:
        keys = keyboard.pressed()
        if not keys or "q" in keys:
            ended.set()
        elif "s" in keys:
            watched.next_order()
            draw()

    handlers = {
        **dict.fromkeys(_END_SIGNALS, ended.set),
        signal.SIGWINCH: draw,
        signal.SIGTSTP: suspend,
    }
    keyboard.start()
    try:
        with live:
            for number, handler in handlers.items():
                loop.add_signal_handler(number, handler)
            if keyboard.is_there:
                loop.add_reader(keyboard.file, press)
            yield draw
    finally:
        if keyboard.is_there:
            loop.remove_reader(keyboard.file)
        for number in handlers:
            loop.remove_signal_handler(number)
        keyboard.stop()
