"""``gateway serve``: a node, or several as workers on one port."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway import logs, serve
from gateway.commands.missing_settings import complete
from gateway.commands.output import Commands, say
from gateway.options import add_options, advice, load_settings
from gateway.service_manager import ServiceManager, passed_socket
from gateway.setting_doubts import doubts
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.app import Addresses

log = logging.getLogger("gateway")


_DESCRIPTION: Final = (
    "Run a gateway node, or several workers on one port, until SIGTERM or Ctrl-C. It needs a Redis and a key that verifies "
    "tokens; with --development it brings its own. docs/configuration.md has all settings by what they are for. "
    "Exit codes: 0 ended by a signal, 2 the configuration is wrong or a port cannot be had."
)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "serve",
        help="run a gateway node",
        description=_DESCRIPTION,
        usage="%(prog)s [options]",
    )
    parser.set_defaults(run=_run)
    add_options(parser)


def _run(options: argparse.Namespace) -> int:
    serve.leave_no_core()
    settings = load_settings(options)
    logs.configure(settings.log_level, settings.log_format)
    for warning in [*advice(os.environ), *doubts(settings)]:
        log.warning("setting_doubtful advice=%r", warning)
    manager = ServiceManager.from_environment(os.environ, os.getpid())
    passed = passed_socket(os.environ, os.getpid())
    if settings.workers > 1:
        return asyncio.run(_serve_with_workers(settings, manager, passed))
    return serve.run(_serve_here(settings, manager, passed))


async def _serve_here(
    settings: Settings, manager: ServiceManager, passed: socket.socket | None
) -> int:
    told = asyncio.Event()
    serve.on_signals(told)
    async with contextlib.AsyncExitStack() as stack:
        settings = await complete(settings, stack)
        await stack.enter_async_context(manager.attended(told))

        def ready(addresses: Addresses) -> None:
            manager.ready()
            api_port = addresses.api and addresses.api[1]
            _tell_developer(settings, addresses.public[1], [addresses.internal[1]], api_port)

        await serve.run_node(settings, told, lambda _addresses: None, ready, passed=passed)
    return 0


async def _serve_with_workers(
    settings: Settings, manager: ServiceManager, passed: socket.socket | None
) -> int:
    from gateway.supervisor import Supervisor, reserve_ports  # noqa: PLC0415 - for those who want it

    told = asyncio.Event()
    supervisor = Supervisor(told, time.monotonic, random.random, passed)
    serve.on_signals(told, supervisor.kill)
    async with contextlib.AsyncExitStack() as stack:
        held = stack.enter_context(contextlib.ExitStack())
        workers = await reserve_ports(await complete(settings, stack), held, passed)
        await stack.enter_async_context(manager.attended(told))

        def ready() -> None:
            manager.ready()
            first, internal_ports = workers[0], [each.internal_port for each in workers]
            _tell_developer(first, first.port, internal_ports, first.api_port)

        return await supervisor.run(workers, ready)


def _tell_developer(
    settings: Settings, port: int, internal_ports: Sequence[int], api_port: int | None
) -> None:
    if settings.development and settings.jwt_secret is not None:
        from gateway.development.banner import banner  # noqa: PLC0415

        secret = settings.jwt_secret.get_secret_value()
        say(banner(settings, port, internal_ports, api_port, secret))
