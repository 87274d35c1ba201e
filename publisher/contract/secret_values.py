"""How a secret is given, to publishers and to gateways: as it is, or as ``@FILE``.

Among a command's arguments only ``@FILE`` is taken: every user of a machine can read what a process was started with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from publisher.errors import InvalidData

_FILE: Final = "@"

NAMES: Final = frozenset(
    {
        "GATEWAY_API_KEYS",
        "GATEWAY_ENCRYPTION_KEYS",
        "GATEWAY_JWT_KEYS",
        "GATEWAY_JWT_SECRET",
        "GATEWAY_REDIS_URL",
        "PUBLISHER_ENCRYPTION_KEYS",
        "PUBLISHER_REDIS_URL",
    }
)
"""The variables that hold secrets, of gateways and of publishers."""


def names_file(value: str) -> bool:
    """Whether ``value`` is an ``@FILE``."""
    return value.startswith(_FILE)


def read_secret(value: str) -> str:
    """The secret that ``value`` stands for: itself, or what the file holds, without line ends behind it.

    Raises:
        InvalidData: the file cannot be read, is no text or is empty. The message does not name the file, since a
            secret may begin with an @ too.
    """
    if not names_file(value):
        return value
    try:
        secret = Path(value.removeprefix(_FILE)).read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise InvalidData(
            f"it begins with @ and so names a file, which cannot be read: {error.strerror}"
        ) from None
    except ValueError:  # also a name that no file can have
        raise InvalidData("it names a file (@FILE) that is no text in UTF-8") from None
    if not secret:
        raise InvalidData("it names a file (@FILE) that is empty")
    return secret


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What a child process is given of an environment, which whatever it starts would inherit in turn.

    Upper and lower case make no difference, as they make none to a gateway.
    """
    return {name: value for name, value in environment.items() if name.upper() not in NAMES}
