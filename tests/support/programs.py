"""Programs and modules that some tests need and a development machine may lack."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

import pytest

RequireProgram = Callable[[str], str]


def require_program(name: str) -> str:
    """The program's path; without it the test is skipped, or fails where all tests must run."""
    # Debian keeps servers in sbin, which is not on every user's PATH.
    path = _find(name, "/usr/sbin:/sbin")
    if path is None:
        cannot_run(f"{name} is not installed")
    return path


def require_module(name: str) -> ModuleType:
    """The module, of which the same holds."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        cannot_run(f"the module {name} is not installed")


def require_toolchain(name: str, where: str, advice: str) -> str:
    """The path of a compiler that only some tests need: without it they are skipped everywhere.

    Args:
        name: of the program.
        where: the folders, separated by colons, in which its own installer puts it.
        advice: how to get it.
    """
    path = _find(name, where)
    if path is None:
        cannot_build(f"{name} is not installed: {advice}")
    return path


def _find(name: str, also: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{also}")


def cannot_run(reason: str) -> NoReturn:
    """Skip the test, or fail it where REQUIRE_ALL_TESTS=1 says that everything is installed."""
    if os.environ.get("REQUIRE_ALL_TESTS") == "1":
        pytest.fail(f"{reason}, and REQUIRE_ALL_TESTS=1 lets no test be skipped", pytrace=False)
    pytest.skip(reason)


def cannot_build(reason: str) -> NoReturn:
    """Skip a test that needs a toolchain which nobody has to have, wherever it runs."""
    pytest.skip(reason)


def leave_out(reason: str) -> NoReturn:
    """Skip a test that has nothing to show on this run's Redis, wherever it runs."""
    pytest.skip(reason)
