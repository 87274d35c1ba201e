"""Settings as options of a command."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from gateway.settings import Settings


class UsageError(Exception):
    """Something the caller has to mend; the message says what."""


def add_settings(parser: argparse.ArgumentParser, *, hidden: bool = False) -> None:
    """Make every setting an option, named as in the environment."""
    group = parser.add_argument_group(
        "settings", "also GATEWAY_<NAME> in the environment, or a key in FILE"
    )
    group.add_argument(
        "--config", metavar="FILE", help="a TOML file with settings [GATEWAY_CONFIG]"
    )
    for name, field in Settings.model_fields.items():
        option = "--" + name.replace("_", "-")
        shown = argparse.SUPPRESS if hidden else _help(field)
        if field.annotation is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, help=shown)
        else:
            group.add_argument(option, metavar=_placeholder(name, field), help=shown)


def _placeholder(name: str, field: FieldInfo) -> str:
    if name.endswith(("_seconds", "_bytes", "_url")):
        return name.rpartition("_")[2].upper()
    if field.annotation in {int, float}:
        return "N"
    return "FOLDER" if field.annotation is Path else "TEXT"


def _help(field: FieldInfo) -> str:
    default = field.default
    if default in (None, [], {}):
        return f"{field.description}".replace("%", "%%")
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    return f"{field.description} ({shown.lower() if isinstance(default, bool) else shown})"


def load_settings(options: argparse.Namespace) -> Settings:
    """Settings from options, environment and file.

    Raises:
        UsageError: one of them cannot be used.
    """
    if options.config:
        os.environ["GATEWAY_CONFIG"] = options.config
    config = os.environ.get("GATEWAY_CONFIG")
    if config and not os.path.isfile(config):  # noqa: PTH113
        raise UsageError(f"there is no configuration file {config}")
    given = {
        name: value
        for name in Settings.model_fields
        if (value := getattr(options, name, None)) is not None
    }
    try:
        return Settings(**given)
    except ValidationError as error:
        raise UsageError(_explain(error)) from None
    except ValueError as error:  # a file that is no TOML, a variable that is no JSON
        raise UsageError(f"the configuration cannot be read: {error}") from None


def _explain(error: ValidationError) -> str:
    """One line for each setting that is wrong; never its value, which may be a secret."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            lines.append(f"{name}: there is no such setting")
        else:
            reason = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{name} (GATEWAY_{name.upper()}): {reason}")
    return "invalid settings\n  " + "\n  ".join(lines)
