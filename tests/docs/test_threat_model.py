"""The threat model names what is there: tests, attacks and settings; and leaves out no setting that is about access."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from gateway.settings import Settings
from tests.attacks.kinds import KINDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text("utf-8")

ATTACKERS = (
    "An outsider",
    "A user",
    "A neighbour tenant",
    "A backend gone wrong",
    "A stolen dump",
    "Somebody at the internal port",
)
ABOUT_ACCESS = re.compile(
    r"jwt_|tls_|internal_tls_|allowed_origins|trusted_proxies|proxy_protocol|encryption_|audit_|_per_(?:user|address|minute)$"
    r"|(?:handshakes|messages)_per_second|max_unauthenticated|max_channel_members|connection_limit_policy|namespaces"
)
NOT_A_DEFENCE = {
    "jwt_user_claim": "names the claim",
    "jwt_algorithms": "narrows what the kind of a key decides",
    "jwt_require_expiry": "is on",
}


def named_tests() -> list[str]:
    return sorted(set(re.findall(r"`(tests/[\w/.]+(?:::\w+)?)`", PAGE)))


@pytest.mark.parametrize("name", named_tests())
def test_each_test_that_it_names_exists(name: str) -> None:
    file, _, function = name.partition("::")
    assert (ROOT / file).exists()
    if function:
        found = ast.walk(ast.parse((ROOT / file).read_text("utf-8")))
        names = {
            each.name for each in found if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert function in names


def test_each_attack_that_it_names_exists() -> None:
    named = set(re.findall(r"`attack: ([^`…]+)`", PAGE))
    assert len(named) > 20
    assert named - {kind.name for kind in KINDS} == set()


def test_each_setting_that_it_names_exists() -> None:
    named = {name.lower() for name in re.findall(r"GATEWAY_(\w+)", PAGE)}
    assert named - set(Settings.model_fields) == set()


def test_each_setting_about_access_is_named() -> None:
    about = {name for name in Settings.model_fields if ABOUT_ACCESS.search(name)}
    assert len(about) > 20
    left_out = {name for name in about if f"`GATEWAY_{name.upper()}`" not in PAGE}
    assert left_out == set(NOT_A_DEFENCE)


def test_each_attacker_has_a_part_with_a_table() -> None:
    parts = dict(
        part.partition("\n")[::2] for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    )
    for attacker in ATTACKERS:
        (text,) = [text for head, text in parts.items() if head.startswith(attacker)]
        assert "| threat | defence | setting | shown by |" in text, attacker
    for head in ("What is to be protected", "What is left to you", "What is accepted"):
        assert parts[head].strip()


def test_each_row_is_shown_by_something() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and line.count("|") == 5]
    defences = [row for row in rows if "---" not in row and "| defence |" not in row]
    assert len(defences) > 30
    for row in defences:
        assert re.search(r"`(?:tests/|attack: )[^`]+` \|$", row), row
