"""The ``gateway`` command."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import socket
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import SecretStr

from gateway import logs, redis_acl, serve
from gateway.client import tail
from gateway.load_generator import command as load_generator
from gateway.operating import command as operating
from gateway.options import add_options, advice, load_settings
from gateway.planning import command as planning
from gateway.planning.load import InvalidLoad
from gateway.service_manager import ServiceManager, passed_socket
from gateway.setting_doubts import doubts
from gateway.settings import Settings, UsageError
from gateway.webhooks import command as webhooks
from publisher.contract.channels import NOTIFICATIONS, parse_channel
from publisher.errors import InvalidChannel, InvalidInput

if TYPE_CHECKING:
    from gateway.app import Addresses

log = logging.getLogger("gateway")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 for a mistake in the configuration, 1 for other trouble."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        sys.exit(options.run(options))
    except UsageError as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read the output has had enough. Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


# -- options ----------------------------------------------------------------------------------

_SETTINGS_OF_TOKENS: Final = (
    *("jwt_secret", "jwt_algorithms", "jwt_user_claim", "jwt_audience", "jwt_issuer"),
    "data_folder",
)
"""What ``gateway token`` looks at. It takes the others too, because all commands read the same file and environment."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "gateway", description="A horizontally scalable real-time gateway."
    )
    parser.add_argument("--version", action="version", version=version("realtime-gateway"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run a gateway node")
    serve.set_defaults(run=_serve)
    add_options(serve)

    token = commands.add_parser(
        "token",
        help="make a token for a user",
        description="Make a token for a user, to try a gateway out. It is signed with GATEWAY_JWT_SECRET, or else "
        "with the secret that `make run` has made in this folder.",
    )
    token.set_defaults(run=_token)
    token.add_argument("--user", required=True, metavar="ID", help="the user whom the token names")
    token.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="NAME",
        help="a channel that the token allows, exact or <namespace>/*; may be repeated",
    )
    token.add_argument(
        "--ttl", type=int, default=3600, metavar="SECONDS", help="lifetime of the token (3600)"
    )
    add_options(token, _SETTINGS_OF_TOKENS)

    check = commands.add_parser(
        "check",
        help="check the configuration and Redis",
        description="Check the configuration and Redis; with --development, those of `make run`. The report is JSON on "
        "standard output. "
        "Exit codes: 0 ok, 1 the report has errors, 2 a setting is invalid (told on standard error).",
    )
    check.set_defaults(run=_check)
    add_options(check)

    acl = commands.add_parser(
        "acl",
        help="the least rights in Redis, as lines of an ACL file",
        description="Print the lines of an ACL file of Redis: one user for the gateways, one for the publishers, each with "
        "the least rights. Names and passwords are those of GATEWAY_REDIS_URL and PUBLISHER_REDIS_URL, where "
        "they are set; passwords are printed as their SHA-256.",
    )
    acl.set_defaults(run=_acl)
    acl.add_argument(
        "--redis-version",
        metavar="VERSION",
        help="such as 7.2, or valkey: from 7.2 on with the right to say which library connects (default: lines that every "
        "version loads)",
    )
    add_options(acl, ("redis_url", "redis_prefix"))

    hooks = commands.add_parser(
        "webhooks", help="send events to a backend's URL", description=webhooks.DESCRIPTION
    )
    hooks.set_defaults(run=_webhooks)
    webhooks.add_options(hooks)
    add_options(hooks, ("redis_url", "redis_prefix", "log_level", "log_format"))

    plan = commands.add_parser(
        "plan", help="how many machines a load needs", description=planning.DESCRIPTION
    )
    plan.set_defaults(run=_plan)
    planning.add_options(plan)

    listen = commands.add_parser(
        "tail", help="show the messages of channels", description=tail.DESCRIPTION
    )
    listen.set_defaults(run=_tail)
    tail.add_options(listen)

    load = commands.add_parser(
        "load", help="put a load on a deployment", description=load_generator.DESCRIPTION
    )
    load.set_defaults(run=_load)
    load_generator.add_options(load)
    add_options(load, load_generator.SETTINGS)

    for operate in operating.add_commands(commands):
        operate.set_defaults(run=_operate)
        add_options(operate, operating.SETTINGS)
    return parser


# -- gateway serve ----------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
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
        settings = await _complete(settings, stack)
        await stack.enter_async_context(manager.attended(told))

        def ready(addresses: Addresses) -> None:
            manager.ready()
            _tell_developer(settings, addresses.public[1], [addresses.internal[1]])

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
        workers = await reserve_ports(await _complete(settings, stack), held, passed)
        await stack.enter_async_context(manager.attended(told))

        def ready() -> None:
            manager.ready()
            _tell_developer(workers[0], workers[0].port, [each.internal_port for each in workers])

        return await supervisor.run(workers, ready)


def _tell_developer(settings: Settings, port: int, internal_ports: Sequence[int]) -> None:
    if settings.development and settings.jwt_secret is not None:
        from gateway.development.banner import banner  # noqa: PLC0415

        secret = settings.jwt_secret.get_secret_value()
        print(banner(settings, port, internal_ports, secret), flush=True)  # noqa: T201


async def _complete(settings: Settings, stack: contextlib.AsyncExitStack) -> Settings:
    """Add what development mode brings along; without it, everything must have been said."""
    found: dict[str, Any] = {}
    if settings.development:
        # Nobody balances a developer's load, and nobody else is to reach it.
        quiet: dict[str, Any] = {"drain_delay_seconds": 0.0, "host": "127.0.0.1"}
        found |= {name: quiet[name] for name in quiet.keys() - settings.model_fields_set}
        if settings.redis_url is not None:
            log.info(
                "redis_given advice=%r",
                "GATEWAY_REDIS_URL is used; unset it to have a Redis of development mode's own",
            )
    if not settings.development and (missing := _missing(settings)):
        raise UsageError(
            f"set {' and '.join(missing)} (or use --development, which brings its own)"
        )
    if not settings.has_keys:
        from gateway.development.login import development_secret  # noqa: PLC0415 - development only

        found["jwt_secret"] = SecretStr(development_secret(settings.data_folder, create=True) or "")
    if settings.redis_url is None:
        from gateway.development.redis_server import EmbeddedRedis, EmbeddedRedisError  # noqa: PLC0415

        server = EmbeddedRedis(settings.data_folder)
        try:
            found["redis_url"] = SecretStr(await server.start())
        except EmbeddedRedisError as error:
            raise UsageError(str(error)) from None
        stack.push_async_callback(server.stop)
    return settings.model_copy(update=found)


def _missing(settings: Settings) -> list[str]:
    missing = []
    if settings.redis_url is None:
        missing.append("GATEWAY_REDIS_URL")
    if not settings.has_keys:
        missing.append(
            "GATEWAY_JWT_SECRET (or GATEWAY_JWT_PUBLIC_KEY, _JWKS_URL, _DISCOVERY or _KEYS)"
        )
    return missing


# -- gateway token, gateway check, gateway acl, gateway plan ----------------------------------


def _token(options: argparse.Namespace) -> int:
    from gateway.development.login import make_token, signing_secret  # noqa: PLC0415

    settings = load_settings(options)
    if options.ttl < 1:
        raise UsageError("--ttl must be a positive number of seconds")
    _check_names(options)
    secret = signing_secret(settings)
    print(make_token(secret, options.user, options.channel, options.ttl, settings))  # noqa: T201
    return 0


def _check_names(options: argparse.Namespace) -> None:
    """See to it that a token names a user whom a gateway lets in, and channels that there can be.

    Raises:
        UsageError: it would be refused, or of no use.
    """
    try:
        parse_channel(f"{NOTIFICATIONS}/{options.user}")
    except InvalidChannel:
        raise UsageError("--user must be the id of a user, without control characters") from None
    for name in options.channel:
        try:
            parse_channel(name)
        except InvalidChannel:
            raise UsageError(
                f"--channel {name!r} must be <namespace>/<id> or <namespace>/*"
            ) from None


def _check(options: argparse.Namespace) -> int:
    from gateway.check import check  # noqa: PLC0415

    settings = load_settings(options)
    logs.configure("error")  # the report says it all

    async def checked() -> dict[str, Any]:
        async with contextlib.AsyncExitStack() as stack:
            return await check(
                await _complete(settings, stack) if settings.development else settings
            )

    report = asyncio.run(checked())
    print(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode(), flush=True)  # noqa: T201
    return 0 if report["ok"] else 1


def _acl(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    url = settings.redis_url
    try:
        lines = redis_acl.lines(
            url.get_secret_value() if url else None,
            redis_acl.publishers_url(),
            settings.redis_prefix,
            options.redis_version,
        )
    except InvalidInput as error:
        raise UsageError(str(error)) from None
    print("\n".join(lines), flush=True)  # noqa: T201
    if any(redis_acl.PLACEHOLDER in line for line in lines):
        print(  # noqa: T201
            f"gateway: put the password's SHA-256 in the place of {redis_acl.PLACEHOLDER}, or >PASSWORD; until then "
            "Redis does not load the line",
            file=sys.stderr,
        )
    return 0


def _webhooks(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    logs.configure(settings.log_level, settings.log_format)
    given = settings.redis_url
    try:
        url = redis_acl.publishers_url() or (given.get_secret_value() if given else None)
        return webhooks.send(options, url, settings.redis_prefix, serve.on_signals)
    except (webhooks.BadOption, InvalidInput) as error:
        raise UsageError(str(error)) from None


def _plan(options: argparse.Namespace) -> int:
    try:
        print(planning.output(options), flush=True)  # noqa: T201
    except InvalidLoad as error:
        raise UsageError(str(error)) from None
    return 0


# -- gateway tail, gateway load: clients of a gateway -----------------------------------------


def _tail(options: argparse.Namespace) -> int:
    try:
        return tail.run(options)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _load(options: argparse.Namespace) -> int:
    from gateway.development.login import make_token, signing_secret  # noqa: PLC0415
    from gateway.load_generator.generator import CannotLoad, generate  # noqa: PLC0415

    settings = load_settings(options)
    if settings.redis_url is None:
        raise UsageError("set GATEWAY_REDIS_URL: messages are published there")
    secret, redis_url = signing_secret(settings), settings.redis_url.get_secret_value()

    def token_of(user: str) -> str:
        return make_token(secret, user, [], 3600, settings)

    try:
        load = load_generator.load_of(options)
        result = serve.run(generate(load, redis_url, settings.redis_prefix, token_of))
    except (ValueError, InvalidInput) as error:
        raise UsageError(str(error)) from None
    except CannotLoad as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(load_generator.output(result, as_json=options.json), flush=True)  # noqa: T201
    return 0 if result.is_good else 1


def _operate(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    if settings.redis_url is None:
        raise UsageError("set GATEWAY_REDIS_URL: the gateways are asked there")
    return operating.run(options, settings.redis_url.get_secret_value(), settings.redis_prefix)
