"""The ``gateway`` command."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from importlib.metadata import version
from typing import Any, Final

import orjson
from pydantic import SecretStr

from gateway import logs
from gateway.advice import advice
from gateway.options import UsageError, add_settings, load_settings
from gateway.settings import Settings

log = logging.getLogger("gateway")

_END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 for a mistake in the configuration, 1 for other trouble."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        sys.exit(options.run(options))
    except UsageError as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


# -- options ----------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "gateway", description="A horizontally scalable real-time gateway."
    )
    parser.add_argument("--version", action="version", version=version("realtime-gateway"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run a gateway node")
    serve.set_defaults(run=_serve)
    add_settings(serve)

    token = commands.add_parser("token", help="make a token for a user")
    token.set_defaults(run=_token)
    token.add_argument("--user", required=True, metavar="ID", help="the user it speaks for")
    token.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="NAME",
        help="a channel it opens, exact or <namespace>/*; may be repeated",
    )
    token.add_argument("--ttl", type=int, default=3600, metavar="SECONDS", help="lifetime (3600)")
    add_settings(token, hidden=True)

    check = commands.add_parser("check", help="check the configuration and Redis")
    check.set_defaults(run=_check)
    add_settings(check, hidden=True)
    return parser


# -- gateway serve ----------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    logs.configure(settings.log_level)
    for warning in advice(settings, os.environ):
        log.warning("setting_doubtful advice=%r", warning)
    _raise_file_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve_until_told(settings))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - it is not there on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def _raise_file_limit() -> None:
    """A socket is a file: allow as many as the system lets us."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not on Windows

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve_until_told(settings: Settings) -> int:
    told = _on_signals()
    async with contextlib.AsyncExitStack() as stack:
        settings = await _complete(settings, stack)
        await _run_node(settings, told)
    return 0


def _on_signals() -> asyncio.Event:
    """An event for the first SIGTERM, SIGINT or SIGHUP (a closed terminal).

    A second one ends the process at once.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell(name: str) -> None:
        log.info("signal_received signal=%s a_second_one=ends_at_once", name)
        told.set()
        for number in _END_SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in _END_SIGNALS:
        loop.add_signal_handler(number, tell, number.name)
    return told


async def _complete(settings: Settings, stack: contextlib.AsyncExitStack) -> Settings:
    """Add what development mode brings along; without it, everything must have been said."""
    found: dict[str, Any] = {}
    if settings.development:
        # Nobody balances a developer's load, and nobody else is to reach it.
        quiet: dict[str, Any] = {"drain_delay_seconds": 0.0, "host": "127.0.0.1"}
        found |= {name: quiet[name] for name in quiet.keys() - settings.model_fields_set}
    if not settings.development and (missing := _missing(settings)):
        raise UsageError(
            f"set {' and '.join(missing)} (or use --development, which brings its own)"
        )
    if settings.jwt_secret is None and settings.jwt_public_key is None:
        from gateway.development import development_secret  # noqa: PLC0415 - development only

        found["jwt_secret"] = SecretStr(development_secret(settings.data_folder, create=True) or "")
    if settings.redis_url is None:
        from gateway.embedded import EmbeddedRedis, EmbeddedRedisError  # noqa: PLC0415

        server = EmbeddedRedis(settings.data_folder)
        try:
            found["redis_url"] = SecretStr(await server.start())
        except EmbeddedRedisError as error:
            raise UsageError(str(error)) from None
        stack.push_async_callback(server.stop)
    return settings.model_copy(update=found)


async def _first(*alternatives: Coroutine[Any, Any, object]) -> None:
    """Return when the first of them is done, and end the others."""
    tasks = [asyncio.ensure_future(each) for each in alternatives]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _missing(settings: Settings) -> list[str]:
    missing = []
    if settings.redis_url is None:
        missing.append("GATEWAY_REDIS_URL")
    if settings.jwt_secret is None and settings.jwt_public_key is None:
        missing.append("GATEWAY_JWT_SECRET (or GATEWAY_JWT_PUBLIC_KEY)")
    return missing


async def _run_node(settings: Settings, told: asyncio.Event) -> None:
    from gateway.app import Gateway, make_verifier  # noqa: PLC0415 - `gateway --help` stays quick
    from gateway.web.credentials import BadKey  # noqa: PLC0415
    from gateway.web.listening import CannotListen  # noqa: PLC0415

    try:
        verifier = make_verifier(settings)
    except BadKey as error:
        raise UsageError(str(error)) from None
    gateway = Gateway(settings, verifier)
    try:
        addresses = await gateway.start()
        if settings.development and settings.jwt_secret is not None:
            from gateway.development import banner  # noqa: PLC0415

            await _first(gateway.until_ready(), told.wait())
            if not told.is_set():
                secret = settings.jwt_secret.get_secret_value()
                print(banner(settings, addresses, secret), flush=True)  # noqa: T201
        await told.wait()
    except CannotListen as error:
        raise UsageError(str(error)) from None
    finally:
        await gateway.stop()


# -- gateway token, gateway check -------------------------------------------------------------


def _token(options: argparse.Namespace) -> int:
    from gateway.development import development_secret, make_token  # noqa: PLC0415

    settings = load_settings(options)
    if options.ttl < 1:
        raise UsageError("--ttl must be a positive number of seconds")
    if settings.jwt_secret is not None:
        secret: str | None = settings.jwt_secret.get_secret_value()
    else:
        secret = development_secret(settings.data_folder)
        if secret is not None:
            print(f"signed with the development secret of {settings.data_folder}", file=sys.stderr)  # noqa: T201
    if secret is None:
        raise UsageError(
            "there is no secret to sign with: set GATEWAY_JWT_SECRET, or start `make run` once"
        )
    print(make_token(secret, options.user, options.channel, options.ttl, settings))  # noqa: T201
    return 0


def _check(options: argparse.Namespace) -> int:
    from gateway.check import check  # noqa: PLC0415

    report = asyncio.run(check(load_settings(options)))
    print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())  # noqa: T201
    return 0 if report["ok"] else 1
