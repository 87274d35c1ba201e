"""Completion in shells, for both commands: shtab makes the scripts of what argparse knows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final

SHELLS: Final = ("bash", "zsh", "fish")

DESCRIPTION: Final = (
    "Print a script that lets a shell complete commands and options. bash: source <(%(prog)s bash) in ~/.bashrc. "
    'zsh: eval "$(%(prog)s zsh)" in ~/.zshrc, behind compinit. fish: %(prog)s fish | source in ~/.config/fish/config.fish.'
)

_FILES: Final = {"FILE": "FILE", "FOLDER": "DIRECTORY"}
"""Which placeholders stand for what shells can list, and shtab's names for it."""


class NoShtab(Exception):
    """The library that makes the scripts is not installed."""

    def __str__(self) -> str:
        return (
            "there is no shtab: run pip install '.[completion]' in a checkout"
            ", or pip install 'FILE.whl[completion]' with the wheel"
        )


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """What the shell reads, for all commands of ``parser``, whose texts are shortened for it.

    Raises:
        NoShtab: the library is not installed.
    """
    try:
        import shtab  # noqa: PLC0415 - only this command needs it
    except ModuleNotFoundError:
        raise NoShtab from None
    for command, text in _commands(parser):
        # A menu has room for a few words.
        command.description = text
        for action in command._actions:  # noqa: SLF001 - argparse has no public way to them
            if action.metavar in _FILES:
                kind: Any = getattr(shtab, _FILES[action.metavar])
                action.complete = kind  # type: ignore[attr-defined]  # so shtab wants to be told
    return shtab.complete(parser, shell)


def _commands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[argparse.ArgumentParser, str | None]]:
    """Each command below ``parser``, and what the help of that says of it."""
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            texts = {each.dest: each.help for each in action._choices_actions}  # noqa: SLF001
            for name, command in action.choices.items():
                yield command, texts.get(name)
