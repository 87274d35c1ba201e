"""What users of the package rely on. A change here is a change for them."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import publisher
from publisher import AsyncPublisher, Publisher

SIGNATURES = {
    "from_url": "(url: 'str', *, prefix: 'str' = 'rt1', max_message_bytes: 'int' = 1048576, retries: 'int' = 3, give_up_after: 'float' = 15.0, timeout: 'float' = 5.0, min_replicas: 'int' = 0, replica_timeout: 'float' = 1.0, default: 'Callable[[Any], Any] | None' = None, encryption_keys: 'str | None' = None, actor: 'str | None' = None) -> 'Self'",
    "from_env": "(**options: 'Any') -> 'Self'",
    "publish": "(self, channel: 'str', data: 'Any', *, idempotency_key: 'str | None' = None, retention: 'Retention | None' = None, min_replicas: 'int | None' = None, collapse_key: 'str | None' = None, ttl: 'int | None' = None, traceparent: 'str | None' = None, at: 'datetime | float | None' = None, wait_confirmed: 'float | None' = None) -> 'Published | Scheduled'",
    "publish_many": "(self, messages: 'Iterable[Outgoing | tuple[str, Any]]') -> 'list[Published | PublisherError]'",
    "broadcast": "(self, data: 'Any', *, channels: 'Iterable[str] | None' = None, users: 'Iterable[str] | None' = None, idempotency_key: 'str | None' = None, traceparent: 'str | None' = None) -> 'list[Published | PublisherError]'",
    "notify": "(self, user: 'str', *, title: 'str', message: 'str', action: 'str | None' = None, request_id: 'str | None' = None, idempotency_key: 'str | None' = None) -> 'Published'",
    "run_result": "(self, session: 'str', *, stdout: 'str', stderr: 'str', exit_code: 'int', duration: 'int', user: 'Grantee | None' = None, idempotency_key: 'str | None' = None) -> 'Published'",
    "grant": "(self, channel: 'str', user: 'Grantee', ttl: 'int | None' = 2592000) -> 'None'",
    "revoke": "(self, channel: 'str', user: 'Grantee') -> 'bool'",
    "disconnect": "(self, user: 'str', *, reason: 'str' = '', connection: 'str | None' = None) -> 'None'",
    "revoke_token": "(self, jti: 'str', until: 'datetime | float') -> 'None'",
    "revoke_tokens_before": "(self, user: 'str', time: 'datetime | float') -> 'None'",
    "cancel": "(self, scheduled: 'Scheduled | str') -> 'bool'",
    "scheduled": "(self, id: 'str') -> 'Scheduled | None'",
    "delete": "(self, channel: 'str', id: 'int') -> 'bool'",
    "receipts": "(self, channel: 'str', id: 'int', *, after: 'str' = '', limit: 'int | None' = None) -> 'list[Receipt]'",
    "forget": "(self, user: 'str') -> 'None'",
    "history": "(self, channel: 'str', since: 'int' = 0, limit: 'int | None' = None) -> 'list[Entry]'",
    "connections": "(self, user: 'str') -> 'list[Connection]'",
    "nodes": "(self) -> 'list[Node]'",
    "drain": "(self, node: 'str') -> 'None'",
    "presence": "(self, channel: 'str') -> 'list[str]'",
    "ping": "(self) -> 'None'",
}


def public_methods(client: type) -> set[str]:
    return {name for name in dir(client) if not name.startswith("_")}


@pytest.mark.parametrize("client", [Publisher, AsyncPublisher])
def test_the_signatures_are_pinned_and_the_same_for_both_clients(client: type):
    found = {name: str(inspect.signature(getattr(client, name))) for name in SIGNATURES}
    assert found == SIGNATURES


@pytest.mark.parametrize(
    ("client", "kind"), [(Publisher, "Events"), (AsyncPublisher, "AsyncEvents")]
)
def test_events_are_pinned_too(client: type, kind: str):
    found = str(inspect.signature(client.events))
    assert found == f"(self, group: 'str', start: 'Start' = 'new') -> '{kind}'"


def test_neither_client_has_a_method_that_the_other_lacks():
    assert public_methods(Publisher) == {*SIGNATURES, "close", "events"}
    assert public_methods(AsyncPublisher) == {*SIGNATURES, "aclose", "events"}


@pytest.mark.parametrize("name", sorted({*SIGNATURES} - {"from_url", "from_env"}))
def test_the_asyncio_methods_are_awaited(name: str):
    assert inspect.iscoroutinefunction(getattr(AsyncPublisher, name))
    assert not inspect.iscoroutinefunction(getattr(Publisher, name))


def test_every_public_name_is_there_and_documented():
    for name in publisher.__all__:
        assert inspect.getdoc(getattr(publisher, name)), name


@pytest.mark.parametrize(
    "result",
    [
        publisher.Published,
        publisher.Entry,
        publisher.Connection,
        publisher.Receipt,
        publisher.Scheduled,
    ],
)
def test_results_are_frozen(result: Any):
    assert result.__dataclass_params__.frozen


def test_the_package_imports_only_redis_and_orjson_besides_the_standard_library():
    """And hiredis, the parser of the redis package's own extra, where it is there; cryptography for who encrypts; shtab for the
    command that prints what shells complete.
    """
    imported = set()
    for file in Path(publisher.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    others = imported - sys.stdlib_module_names - {"publisher"}
    assert others == {"redis", "orjson", "hiredis", "cryptography", "shtab"}


def test_without_cryptography_all_goes_on_but_encryption_which_says_what_to_install():
    code = """if True:
        import sys
        sys.modules["cryptography"] = None
        from publisher import InvalidData, Publisher
        Publisher.from_url("redis://localhost")
        try:
            Publisher.from_url("redis://localhost", encryption_keys="a:" + 43 * "A")
        except InvalidData as error:
            print(error)
        """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "realtime-gateway[encryption]" in run.stdout


def test_importing_it_prints_and_configures_nothing():
    code = "import logging, publisher; print(logging.root.handlers, logging.getLogger('publisher').level)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("[] 0\n", "")


def test_it_declares_its_types():
    assert (Path(publisher.__path__[0]) / "py.typed").exists()


def test_each_script_has_a_head_that_names_its_keys_arguments_and_reply():
    scripts = sorted((Path(publisher.__path__[0]) / "contract" / "scripts").glob("*.lua"))
    assert scripts
    for script in scripts:
        head = re.match(r"(--.*\n)+", script.read_text("utf-8"))
        assert head, script.name
        assert "KEYS[1]" in head[0], script.name
        assert ("ARGV" in script.read_text("utf-8")) == ("ARGV" in head[0]), script.name
