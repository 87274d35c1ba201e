"""Settings as options of a command, and their mistakes in plain words."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import CliApp, CliSettingsSource

from gateway import unknown_variables
from gateway.setting_examples import example, example_value
from gateway.settings import SECRETS, Settings, UsageError
from publisher.contract.redis_url import holds_password
from publisher.contract.secret_values import names_file

_PLACEHOLDERS: Final = {
    "SecretStr": "@FILE",
    "dict[str,Any]": "JSON",
    "float": "N",
    "int": "N",
    "list[str]": "LIST",
    "str": "TEXT",
    "Path": "FILE",
}


def add_options(
    parser: argparse.ArgumentParser,
    shown: Collection[str] = Settings.model_fields,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Make every setting an option of a command, for ``load_settings``; its help names those ``shown``.

    Of a setting in ``texts`` these say what it is, since it means something else here than to a gateway.
    """
    described = partial(_described, shown=shown, texts=texts or {})
    group = parser.add_argument_group(
        "settings",
        "also GATEWAY_<NAME> in the environment, or a key in FILE; a secret only there, or as @FILE",
    )
    group.add_argument(
        "--config", metavar="FILE", help="a TOML file with settings [GATEWAY_CONFIG]"
    )
    source: CliSettingsSource[argparse.ArgumentParser] = CliSettingsSource(
        Settings,
        root_parser=parser,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        add_argument_method=lambda _parser, *names, **details: group.add_argument(
            *names, **described(names[0], details)
        ),
    )
    parser.set_defaults(settings_source=source)


def _described(
    option: str, details: dict[str, Any], shown: Collection[str], texts: Mapping[str, str]
) -> dict[str, Any]:
    """What argparse is told of an option, with placeholders that say what to give."""
    details["help"] = texts.get(details["dest"], details["help"])
    if details["dest"] not in shown:
        details["help"] = argparse.SUPPRESS
    if "metavar" in details:
        unit = option.rpartition("-")[2]
        details["metavar"] = (
            unit.upper()
            if unit in {"seconds", "bytes", "url", "folder"}
            else _PLACEHOLDERS.get(details["metavar"], details["metavar"])
        )
    for nothing in ("null", "[]", "{}"):
        details["help"] = details["help"].removesuffix(f" (default: {nothing})")
    return details


def load_settings(options: argparse.Namespace) -> Settings:
    """Settings from options, environment and file.

    Raises:
        UsageError: one of them cannot be used.
    """
    _refuse_secrets(options)
    if options.config:
        os.environ["GATEWAY_CONFIG"] = options.config
    config = os.environ.get("GATEWAY_CONFIG")
    if config and not Path(config).is_file():
        raise UsageError(f"there is no configuration file {config}")
    try:
        return CliApp.run(Settings, options, cli_settings_source=options.settings_source)
    except ValidationError as error:
        raise UsageError(_explain(error)) from None
    except ValueError as error:  # a file that is no TOML, a variable that is no JSON
        raise UsageError(f"the configuration cannot be read: {error}") from None


def _refuse_secrets(options: argparse.Namespace) -> None:
    """Every user of a machine can read what a process was started with."""
    for name in SECRETS:
        given = getattr(options, name, None)
        if (
            given is None
            or names_file(given)
            or (name == "redis_url" and not holds_password(given))
        ):
            continue
        what = "a password in it" if name == "redis_url" else "this secret"
        raise UsageError(
            f"--{name.replace('_', '-')}: every user of this machine could read {what}: "
            f"set GATEWAY_{name.upper()}, or give @FILE"
        )


def advice(variables: Mapping[str, str]) -> list[str]:
    """A sentence for each mistake that does not keep a gateway from starting.

    Args:
        variables: the environment. No value of it is told, since it may be secret.
    """
    return unknown_variables.advice(variables, Settings.model_fields)


def mistakes(error: ValidationError, *, variables: bool) -> list[str]:
    """A line for each setting that is wrong, with an example of a right one; never its value, which may be a secret.

    Args:
        error: of reading them.
        variables: whether the settings may have come from the environment: then they are told by that name, too.
    """
    problems = error.errors(include_input=False, include_url=False)
    return [_mistake(problem, variables) for problem in problems]


def _explain(error: ValidationError) -> str:
    # The advice is often about the variable that was meant.
    lines = [*mistakes(error, variables=True), *advice(os.environ)]
    return "invalid settings\n  " + "\n  ".join(lines)


def _mistake(problem: ErrorDetails, variables: bool) -> str:
    name = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        near = unknown_variables.did_you_mean(name, Settings.model_fields)
        return f"{name}: there is no such setting{near}"
    shown = ""
    if name in Settings.model_fields:
        shown = f"; for example {example(name) if variables else example_value(name)}"
    told = f"{name} (GATEWAY_{name.upper()})" if variables else name
    return f"{told}: {_in_plain_words(problem)}{shown}"


def _in_plain_words(problem: ErrorDetails) -> str:
    if problem["type"] in _MUST_BE:
        return f"must be {_MUST_BE[problem['type']]}"
    reason = problem["msg"].removeprefix("Value error, ")
    return reason.replace("Input should be", "must be", 1)


_MUST_BE: Final = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "an integer"),
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a JSON object",
}
"""Pydantic's types of errors."""
