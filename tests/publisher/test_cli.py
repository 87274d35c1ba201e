"""The command, as its users start it: in a process of its own."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from publisher import EVERYBODY, Namespace, Presence, Publisher
from publisher.contract.keys import Keys
from publisher.contract.revocations import digest_of
from publisher.contract.sealing import KeyRing
from publisher.publication import DEFAULT_MAX_MESSAGE_BYTES
from tests.publisher.announcing import Announce
from tests.support.topology import on_database

COMMAND = (sys.executable, "-m", "publisher")
ROOT = Path(__file__).parents[2]

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(redis_url: str, prefix: str, tmp_path: Path) -> dict[str, str]:
    own = {"PUBLISHER_REDIS_URL": redis_url, "PUBLISHER_REDIS_PREFIX": prefix}
    return os.environ | own | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def cli(environment: dict[str, str], tmp_path: Path) -> Cli:
    def run(
        *arguments: str, stdin: str = "", folder: Path = tmp_path, **changes: str | None
    ) -> subprocess.CompletedProcess[str]:
        merged = environment | changes
        return subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            cwd=folder,
            env={name: value for name, value in merged.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return run


def python(code: str) -> Sequence[str]:
    return ("--", sys.executable, "-c", code)


def only_result(publisher: Publisher, session: str = "s") -> dict[str, Any]:
    (entry,) = publisher.history(f"run-results/{session}")
    return entry.data


def fails(run: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    """It ended with ``code``, nothing on stdout and one line on stderr that holds ``message``."""
    assert run.returncode == code
    assert run.stdout == ""
    assert run.stderr.startswith("publisher: ")
    assert run.stderr.count("\n") == 1
    assert message in run.stderr


def test_who_has_confirmed_a_message_is_printed(
    cli: Cli, publisher: Publisher, server: redis.Redis, keys: Keys
):
    run = cli("publish", "run-results/s", "1", "--wait-confirmed", "0.01")
    sent = json.loads(run.stdout)
    assert sent["confirmed"] == []
    server.zadd(keys.confirmed("run-results/s"), {"u": sent["id"]})
    told = json.loads(cli("receipts", "run-results/s", str(sent["id"])).stdout)
    assert told == {"user": "u", "up_to": sent["id"]}


def test_receipts_are_printed_in_parts(cli: Cli, server: redis.Redis, keys: Keys):
    server.zadd(keys.confirmed("run-results/s"), {"a": 7, "b": 7, "c": 8})
    options = ("receipts", "run-results/s", "7", "--limit", "1")
    found = [json.loads(cli(*options).stdout)]
    found += [json.loads(cli(*options, "--after", "a").stdout)]
    assert [each["user"] for each in found] == ["a", "b"]
    rest = cli("receipts", "run-results/s", "7", "--after", "a").stdout.splitlines()
    assert [json.loads(each)["user"] for each in rest] == ["b", "c"]
    fails(cli(*options[:-1], "0"), 2, "limit must be")


def test_a_broadcast_reaches_each_and_tells_of_those_that_it_does_not(
    cli: Cli, publisher: Publisher
):
    run = cli("broadcast", '{"a": 1}', "--user", "u", "--user", "v", "--idempotency-key", "k")
    told = [json.loads(line) for line in run.stdout.splitlines()]
    assert [each["channel"] for each in told] == ["notifications/u", "notifications/v"]
    assert [each.data for each in publisher.history("notifications/v")] == [{"a": 1}]
    run = cli("broadcast", "-", "--channel", "wrong", "--channel", "run-results/s", stdin="[2]")
    assert run.returncode == 2
    assert json.loads(run.stdout)["channel"] == "run-results/s"
    assert "wrong" in run.stderr
    fails(cli("broadcast", "1"), 2, "--user --channel")


def test_a_message_that_is_to_be_published_later_is_printed_and_cancelled(
    cli: Cli, publisher: Publisher
):
    arguments = ("run-results/s", "1", "--at", "2100-01-31T12:00:00Z", "--ttl", "60")
    scheduled = json.loads(cli("publish", *arguments).stdout)
    assert (scheduled["channel"], scheduled["at"]) == ("run-results/s", 4_105_080_000)
    told = [json.loads(cli("cancel", scheduled["id"]).stdout) for _ in range(2)]
    assert [each["cancelled"] for each in told] == [True, False]
    fails(cli("publish", *arguments, "--wait-confirmed", "1"), 2, "not allowed with")
    fails(cli("publish", "run-results/s", "1", "--at", "tomorrow"), 2, "--at must be like")


def test_a_message_is_deleted_once(cli: Cli, publisher: Publisher):
    sent = publisher.publish("run-results/s", 1)
    told = [json.loads(cli("delete", "run-results/s", str(sent.id)).stdout) for _ in range(2)]
    assert [each["deleted"] for each in told] == [True, False]
    assert publisher.history("run-results/s") == []
    fails(cli("delete", "run-results/s", "x"), 2, "invalid int value")


def test_publish_prints_what_was_published(cli: Cli, publisher: Publisher):
    run = cli("publish", "run-results/s", '{"a": [1, null]}')
    (entry,) = publisher.history("run-results/s")
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout) == {
        "id": entry.id,
        "channel": "run-results/s",
        "duplicate": False,
    }
    assert entry.data == {"a": [1, None]}


def test_publish_reads_standard_input(cli: Cli, publisher: Publisher):
    assert cli("publish", "run-results/s", "-", stdin='"é"\n').returncode == 0
    assert only_result(publisher) == "é"


def test_publish_takes_a_negative_number(cli: Cli, publisher: Publisher):
    assert cli("publish", "run-results/s", "-5").returncode == 0
    assert only_result(publisher) == -5


def test_an_idempotency_key_is_told_of(cli: Cli):
    key = ("--idempotency-key", "k")
    runs = [cli("publish", "run-results/s", "1", *key) for _ in range(2)]
    first, second = (json.loads(run.stdout) for run in runs)
    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert first["id"] == second["id"]


def test_notify_sends_what_it_was_given(cli: Cli, publisher: Publisher):
    run = cli("notify", "u", "--title", "t", "--message", "m", "--action", "a", "--request-id", "r")
    (entry,) = publisher.history("notifications/u")
    assert json.loads(run.stdout)["id"] == entry.id
    assert entry.data == {"title": "t", "message": "m", "action": "a", "requestId": "r"}


def test_run_publishes_the_result_and_grants_the_session(
    cli: Cli, publisher: Publisher, server: redis.Redis, keys: Keys
):
    code = "import sys; print(sys.stdin.read()); print('bad', file=sys.stderr); sys.exit(7)"
    run = cli("run", "--session", "s", "--user", "u", *python(code), stdin="read me")
    result = only_result(publisher)
    assert run.returncode == 7
    assert json.loads(run.stdout)["channel"] == "run-results/s"
    assert run.stderr == ""
    assert type(result.pop("duration")) is int
    assert result == {"stdout": "read me\n", "stderr": "bad\n", "exitCode": 7}
    assert server.zscore(keys.grant("run-results/s"), "u") is not None


def test_run_can_grant_the_session_to_everybody(cli: Cli, server: redis.Redis, keys: Keys):
    assert cli("run", "--session", "s", "--everybody", "--", "true").returncode == 0
    assert server.zrange(keys.grant("run-results/s"), 0, -1) == [b"*"]


def test_run_gives_the_command_everything_but_the_secrets(cli: Cli, publisher: Publisher):
    code = "import os; print(*sorted(os.environ))"
    secrets = ("GATEWAY_REDIS_URL", "GATEWAY_JWT_SECRET")
    given = dict.fromkeys((*secrets, "REDIS_URL"), "redis://:secret@localhost")
    assert cli("run", "--session", "s", *python(code), **given).returncode == 0
    names = only_result(publisher)["stdout"].split()
    assert {"PATH", "PUBLISHER_REDIS_PREFIX", "REDIS_URL"} <= set(names)
    assert not {"PUBLISHER_REDIS_URL", *secrets} & set(names)


def test_run_tells_the_duration_in_milliseconds(cli: Cli, publisher: Publisher):
    start = time.monotonic()
    cli("run", "--session", "s", *python("import time; time.sleep(0.2)"))
    assert 200 <= only_result(publisher)["duration"] <= (time.monotonic() - start) * 1000


def test_run_grants_nobody_who_was_not_named(cli: Cli, server: redis.Redis, keys: Keys):
    assert cli("run", "--session", "s", "--", "true").returncode == 0
    assert not server.exists(keys.grant("run-results/s"))


def test_run_leaves_the_commands_own_options_alone(cli: Cli, publisher: Publisher):
    cli("run", "--session", "s", "--", "printf", "%s ", "--session", "--", "-h")
    assert only_result(publisher)["stdout"] == "--session -- -h "


def test_run_of_a_missing_command_is_127_as_in_a_shell(cli: Cli, publisher: Publisher):
    run = cli("run", "--session", "s", "--", "no-such-command")
    result = only_result(publisher)
    assert run.returncode == result["exitCode"] == 127
    assert "no-such-command: command not found" in result["stderr"]
    assert run.stderr == "publisher: no-such-command: command not found\n"


def test_run_of_what_cannot_be_executed_is_126(cli: Cli, publisher: Publisher, tmp_path: Path):
    (tmp_path / "data").write_text("no program")
    run = cli("run", "--session", "s", "--", "./data")
    assert run.returncode == only_result(publisher)["exitCode"] == 126


def test_run_of_a_killed_command_is_128_and_the_signal(cli: Cli, publisher: Publisher):
    run = cli("run", "--session", "s", "--", "sh", "-c", "kill -9 $$")
    assert run.returncode == only_result(publisher)["exitCode"] == 137


def test_run_replaces_what_is_not_utf_8(cli: Cli, publisher: Publisher):
    cli(
        "run", "--session", "s", *python(r"import os; os.write(1, b'a\xffb'); os.write(2, b'\xc3')")
    )
    result = only_result(publisher)
    assert (result["stdout"], result["stderr"]) == ("a\ufffdb", "\ufffd")


def test_run_truncates_what_is_too_much_and_says_so(cli: Cli, publisher: Publisher):
    code = (
        r"import os, sys; sys.stdout.write('\x01' * 3_000_000); sys.stderr.write('é' * 1_000_000)"
    )
    assert cli("run", "--session", "s", *python(code)).returncode == 0
    result = only_result(publisher)
    assert result["stdout"].endswith("[output truncated: it was 3000000 bytes long]\n")
    assert result["stderr"].endswith("[output truncated: it was 2000000 bytes long]\n")
    size = len(json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode())
    assert DEFAULT_MAX_MESSAGE_BYTES - 300 < size <= DEFAULT_MAX_MESSAGE_BYTES


def test_run_does_not_wait_for_what_the_command_leaves_behind(cli: Cli, publisher: Publisher):
    start = time.monotonic()
    run = cli("run", "--session", "s", "--", "sh", "-c", "sleep 30 & echo $!")
    assert time.monotonic() - start < 25
    os.kill(int(only_result(publisher)["stdout"]), signal.SIGTERM)
    assert run.returncode == 0


def test_run_waits_for_a_command_that_has_closed_its_output(cli: Cli, publisher: Publisher):
    assert (
        cli(
            "run", "--session", "s", "--", "sh", "-c", "exec >&- 2>&-; sleep 0.1; exit 3"
        ).returncode
        == 3
    )
    assert only_result(publisher)["duration"] >= 100


@pytest.mark.parametrize(
    ("number", "code", "reported"),
    [
        (signal.SIGTERM, "time.sleep(50)", 143),
        (signal.SIGINT, "time.sleep(50)", None),
        (signal.SIGTERM, "signal.signal(15, lambda *_: sys.exit(5)); time.sleep(50)", 5),
    ],
)
def test_run_passes_signals_on_and_publishes_the_end(
    environment: dict[str, str],
    publisher: Publisher,
    tmp_path: Path,
    number: int,
    code: str,
    reported: int | None,
):
    prelude = "import pathlib, signal, sys, time; print('partial', flush=True); "
    started = tmp_path / "started"
    setup, _, wait = code.rpartition("; ")
    program = f"{prelude}{setup or 'pass'}; pathlib.Path({str(started)!r}).touch(); {wait}"
    process = subprocess.Popen(
        [*COMMAND, "run", "--session", "s", *python(program)],
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,
        # Whoever runs the tests in the background (a shell's &) has them ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - nothing else runs here
    )
    with process:
        deadline = time.monotonic() + 30
        while not started.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        process.communicate(timeout=30)
    result = only_result(publisher)
    # Python ends itself by SIGINT after a KeyboardInterrupt.
    assert process.returncode == result["exitCode"] == (reported or 130)
    assert result["stdout"] == "partial\n"


def test_run_keeps_ignoring_what_it_was_started_to_ignore(
    environment: dict[str, str], publisher: Publisher
):
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    subprocess.run(
        [*COMMAND, "run", "--session", "s", *python(code)],
        env=environment,
        check=True,
        capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert only_result(publisher)["stdout"] == "True\n"


def test_run_checks_the_names_before_it_runs_anything(cli: Cli, tmp_path: Path):
    fails(cli("run", "--session", "a\tb", "--", "touch", "ran"), 2, "invalid channel")
    fails(cli("run", "--session", "s", "--user", "", "--", "touch", "ran"), 2, "user must be")
    fails(
        cli("run", "--session", "s", "--", "touch", "ran", PUBLISHER_REDIS_URL=None), 2, "no Redis"
    )
    assert not (tmp_path / "ran").exists()


def test_a_result_that_cannot_be_published_fails_a_run_that_succeeded(cli: Cli, nobody: str):
    fails(cli("--redis-url", nobody, "run", "--session", "s", "--", "true"), 1, "unavailable")


def test_a_failed_run_keeps_its_code_though_its_result_is_lost(cli: Cli, nobody: str):
    fails(
        cli("--redis-url", nobody, "run", "--session", "s", "--", "sh", "-c", "exit 9"),
        9,
        "unavail",
    )


def test_grant_and_revoke_say_what_they_did(cli: Cli, server: redis.Redis, keys: Keys):
    def say(*arguments: str) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(cli(*arguments).stdout)
        return said

    about = {"channel": "run-results/s", "user": "u"}
    assert say("grant", "run-results/s", "u") == about | {"ttl": 30 * 86_400}
    assert say("grant", "run-results/s", "u", "--ttl", "60") == about | {"ttl": 60}
    assert say("grant", "run-results/s", "u", "--ttl", "0") == about | {"ttl": None}
    assert server.ttl(keys.grant("run-results/s")) == -1
    assert say("revoke", "run-results/s", "u").items() >= (about | {"revoked": True}).items()
    assert say("revoke", "run-results/s", "u").items() >= (about | {"revoked": False}).items()


def test_who_revokes_is_told_what_else_may_let_the_user_in(cli: Cli):
    of_one = json.loads(cli("revoke", "run-results/s", "u").stdout)["note"]
    assert "a grant to everybody, a token" in of_one
    assert "or a channel token still lets a user in; revoke-token" in of_one
    of_all = json.loads(cli("revoke", "run-results/s", "--everybody").stdout)["note"]
    assert "a grant of their own, a token" in of_all


@pytest.mark.parametrize(
    "arguments",
    [
        ("run-results/s", "--everybody"),
        ("--everybody", "run-results/s"),
        ("run-results/s", "--everybody", "--ttl", "60"),
    ],
)
def test_everybody_is_an_option_in_the_place_of_the_user(
    cli: Cli, server: redis.Redis, keys: Keys, arguments: Sequence[str]
):
    about = {"channel": "run-results/s", "everybody": True}
    granted = cli("grant", *arguments)
    assert json.loads(granted.stdout).items() >= about.items()
    assert granted.stderr == ""
    assert server.zrange(keys.grant("run-results/s"), 0, -1) == [b"*"]
    taken = json.loads(cli("revoke", "run-results/s", "--everybody").stdout)
    assert taken.items() >= (about | {"revoked": True}).items()


def test_an_asterisk_is_a_user_and_the_command_says_so(
    cli: Cli, publisher: Publisher, server: redis.Redis, keys: Keys
):
    publisher.grant("run-results/s", EVERYBODY)
    granted = cli("grant", "run-results/s", "*", "--ttl", "60")
    assert json.loads(granted.stdout) == {"channel": "run-results/s", "user": "*", "ttl": 60}
    assert granted.stderr == "publisher: * is the user with this id; all users are --everybody\n"
    assert server.zcard(keys.grant("run-results/s")) == 2
    assert json.loads(cli("revoke", "run-results/s", "*").stdout)["revoked"]
    assert server.zrange(keys.grant("run-results/s"), 0, -1) == [b"*"]


def test_the_user_may_stand_behind_an_option(cli: Cli, server: redis.Redis, keys: Keys):
    assert cli("grant", "run-results/s", "--ttl", "60", "u").returncode == 0
    assert server.zrange(keys.grant("run-results/s"), 0, -1) == [b"u"]


def test_what_ends_connections_and_tokens_says_what_it_has_ended(
    cli: Cli, server: redis.Redis, keys: Keys
):
    def say(*arguments: str) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(cli(*arguments).stdout)
        return said

    ended = {"user": "u", "connection": "n1/2", "reason": "locked"}
    assert say("disconnect", "u", "--reason", "locked", "--connection", "n1/2") == ended
    assert server.zcard(keys.disconnected("u")) == 1
    until = {"jti": "t1", "until": 4_102_444_800.0}
    assert say("revoke-token", "t1", "--until", "2100-01-01T00:00:00Z") == until
    assert server.exists(keys.revoked(digest_of("t1")))
    before = {"user": "u", "before": 1_640_995_200.5}
    assert say("revoke-tokens-before", "u", "1640995200.5") == before
    assert server.get(keys.before("u")) == b"1640995200.5"


def test_history_prints_a_line_for_each_entry(cli: Cli, publisher: Publisher):
    ids = [publisher.publish("run-results/s", n).id for n in range(4)]
    lines = cli(
        "history", "run-results/s", "--since", str(ids[0]), "--limit", "2"
    ).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": id_, "channel": "run-results/s", "data": n, "timestamp": id_ // 1000}
        for n, id_ in enumerate(ids[1:3], start=1)
    ]


def test_connections_prints_a_line_for_each(cli: Cli, server: redis.Redis, keys: Keys):
    later = int(time.time() * 1000) + 60_000
    server.zadd(keys.nodes, {"node": later})
    server.zadd(keys.connections("u"), {"node/a": later})
    expected = {"node": "node", "id": "a", "lease_expires_at": later}
    assert json.loads(cli("connections", "u").stdout) == expected
    assert cli("connections", "nobody").stdout == ""


def test_presence_prints_a_line_for_each_user(
    cli: Cli, server: redis.Redis, keys: Keys, announce: Announce
):
    announce(Namespace("rooms", presence=Presence()), Namespace("halls"))
    now = int(time.time() * 1000)
    members = {"n1/b": now + 60_000, "n2/b": now + 60_000, "n1/a/c": now + 60_000, "n3/d": now - 1}
    server.zadd(keys.presence("rooms/x"), members)
    lines = cli("presence", "rooms/x").stdout.splitlines()
    assert list(map(json.loads, lines)) == [{"user": "a/c"}, {"user": "b"}]
    refused = cli("presence", "halls/x")
    assert refused.returncode == 2
    assert "has no presence" in refused.stderr


def test_a_reader_that_has_had_enough_causes_no_complaint(
    environment: dict[str, str], publisher: Publisher
):
    publisher.publish_many(("notifications/u", "x" * 1_000) for _ in range(200))
    line = f"{sys.executable} -m publisher history notifications/u | head -n 1"
    shell = ["bash", "-o", "pipefail", "-c", line]
    run = subprocess.run(shell, env=environment, capture_output=True, check=False)
    assert run.returncode == 141
    assert run.stdout.count(b"\n") == 1
    assert run.stderr == b""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("publish", "nonsense", "1"), "invalid channel 'nonsense'"),
        (("publish", "run-results/s", "{'a': 1}"), "not JSON"),
        (("publish", "run-results/s", "NaN"), "not JSON"),
        (("publish", "missing/x", "1"), "unknown namespace"),
        (("grant", "run-results/s", "u", "--ttl", "-1"), "ttl"),
        (("grant", "run-results/s", "u", "--ttl", "soon"), "--ttl"),
        (("grant", "run-results/s"), "required: USER or --everybody"),
        (("revoke", "run-results/s"), "required: USER or --everybody"),
        (("run", "--session", "", "--", "true"), "session must be a string that is not empty"),
        (("notify", "", "--title", "t", "--message", "m"), "user must be a string"),
        (("grant", "run-results/s", "u", "--everybody"), "not both"),
        (("history", "run-results/s", "--limit", "0"), "limit"),
        (("disconnect", "u", "--connection", "2"), "connection must be <node>/<id>"),
        (("revoke-token", "t"), "--until"),
        (("revoke-token", "t", "--until", "1640995200"), "until is over"),
        (("revoke-tokens-before", "u", "yesterday"), "2026-01-31T12:00:00Z"),
        (("revoke-tokens-before", "u", "2026-01-31T12:00:00"), "2026-01-31T12:00:00Z"),
        (("notify", "u"), "--title, --message"),
        (("grant", "notifications/u", "v"), "only the user whose id is the channel's id"),
        (("revoke", "notifications/u", "u"), "no effect on 'notifications/u'"),
        (("run", "--session", "s"), "COMMAND"),
        (("run", "--session", "s", "python3", "-c", "1"), "put -- before the command: "),
        (("run", "--session", "s", "--user", "u", "--everybody", "--", "true"), "not both"),
        (("explode",), "explode"),
        ((), "COMMAND"),
        (("--redis-url", "redis://:s3/cr3t@h:1/0", "connections", "u"), "invalid Redis URL"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli: Cli, arguments: Sequence[str], message: str):
    run = cli(*arguments)
    fails(run, 2, message)
    assert "cr3t" not in run.stderr


@pytest.mark.parametrize(
    "url", ["redis://u:cr3t@localhost:6379/0", "redis://localhost?password=cr3t"]
)
def test_a_password_among_the_arguments_is_refused(cli: Cli, url: str):
    run = cli("--redis-url", url, "connections", "u")
    fails(run, 2, "set PUBLISHER_REDIS_URL, or give --redis-url @FILE")
    assert "cr3t" not in run.stderr


def test_the_url_may_be_in_a_file(cli: Cli, redis_url: str, nobody: str, tmp_path: Path):
    (tmp_path / "url").write_text(f"{redis_url}\n")
    assert cli("ping", "--redis-url", "@url", PUBLISHER_REDIS_URL=nobody).returncode == 0
    assert cli("ping", PUBLISHER_REDIS_URL="@url").returncode == 0
    fails(cli("ping", PUBLISHER_REDIS_URL="@cr3t"), 2, "cannot be read: No such file")
    assert "cr3t" not in cli("ping", PUBLISHER_REDIS_URL="@cr3t").stderr


def test_ping_says_that_redis_has_answered(cli: Cli):
    answer = json.loads(cli("ping").stdout)
    assert answer["ok"] is True
    assert answer["milliseconds"] > 0
    assert "encryption_keys" not in answer


def test_ping_names_the_keys_of_the_ring_and_shows_none(cli: Cli):
    key = base64.b64encode(bytes(32)).decode()
    run = cli("ping", PUBLISHER_ENCRYPTION_KEYS=f"k1:{key}")
    assert json.loads(run.stdout)["encryption_keys"] == list(KeyRing({"k1": bytes(32)}).names)
    assert key[:8] not in run.stdout


def test_ping_of_a_redis_that_is_not_there_is_one_line_and_exit_code_1(cli: Cli, nobody: str):
    fails(cli("ping", "--redis-url", nobody), 1, "Redis is unavailable")


def test_ping_with_a_database_that_does_not_exist_says_so(cli: Cli, redis_url: str):
    url = on_database(redis_url, 99_999)
    fails(cli("ping", "--redis-url", url), 1, "DB index")


def test_redis_unavailable_is_one_line_and_exit_code_1(cli: Cli, nobody: str):
    fails(cli("publish", "run-results/s", "1", PUBLISHER_REDIS_URL=nobody), 1, "had no effect")


def test_global_options_may_stand_before_the_command_or_after_it(
    cli: Cli, redis_url: str, nobody: str, server: redis.Redis, prefix: str
):
    options = ("--redis-url", redis_url, "--prefix", f"{prefix}-x")
    for arguments in (
        (*options, "publish", "run-results/s", "1"),
        ("publish", *options, "run-results/s", "1"),
    ):
        assert cli(*arguments, PUBLISHER_REDIS_URL=nobody).returncode == 0
    assert server.zcard(Keys(f"{prefix}-x").log("run-results/s")) == 2


@pytest.fixture
def checkout(tmp_path: Path, primary_url: str) -> Path:
    """A checkout in which a development gateway has written its Redis's URL."""
    checkout = tmp_path / "checkout"
    (checkout / "src" / "deep").mkdir(parents=True)
    (checkout / ".gateway").mkdir()
    (checkout / ".gateway" / "redis.url").write_text(f"{primary_url}\n")
    return checkout


@pytest.mark.parametrize("below", [".", "src/deep"])
def test_a_development_gateways_redis_is_found_from_anywhere_in_its_checkout(
    cli: Cli, checkout: Path, publisher: Publisher, below: str
):
    folder = checkout / below
    run = cli("publish", "run-results/s", "1", folder=folder, PUBLISHER_REDIS_URL=None)
    assert run.returncode == 0
    assert only_result(publisher) == 1


def test_what_is_set_comes_before_what_is_found(cli: Cli, checkout: Path, nobody: str):
    run = cli("connections", "u", folder=checkout, PUBLISHER_REDIS_URL=nobody)
    fails(run, 1, "unavailable")
    assert ".gateway" not in run.stderr


def test_a_found_redis_that_is_gone_is_told_with_where_it_was_found(
    cli: Cli, checkout: Path, nobody: str
):
    (checkout / ".gateway" / "redis.url").write_text(nobody)
    run = cli("connections", "u", folder=checkout / "src", PUBLISHER_REDIS_URL="")
    fails(run, 1, str(checkout / ".gateway" / "redis.url"))
    assert "make run" in run.stderr


def test_a_found_redis_that_has_answered_is_not_said_to_be_gone(cli: Cli, checkout: Path):
    publish = ("publish", "run-results/s", "1")
    too_few = ("--min-replicas", "9", "--replica-timeout", "0.05")
    run = cli(*publish, *too_few, folder=checkout, PUBLISHER_REDIS_URL="")
    fails(run, 1, "of 9 replicas")
    assert str(checkout / ".gateway" / "redis.url") in run.stderr
    assert "make run" not in run.stderr


def test_without_any_redis_the_error_says_what_to_do(cli: Cli):
    run = cli("connections", "u", PUBLISHER_REDIS_URL=None)
    fails(run, 2, "PUBLISHER_REDIS_URL")
    assert "make run" in run.stderr


def test_help_needs_no_redis(cli: Cli):
    assert "run" in cli("--help", PUBLISHER_REDIS_URL=None).stdout
    assert "0 for ever" in cli("grant", "--help", PUBLISHER_REDIS_URL=None).stdout


def test_the_package_declares_the_command():
    declared = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'publisher = "publisher.cli:main"' in declared


def test_who_subscribes_while_the_program_runs_is_let_in(
    redis_url: str, primary_url: str, prefix: str
):
    looking = (
        "import redis, sys; server = redis.Redis.from_url(sys.argv[1]); "
        "print(server.zscore(sys.argv[2], 'pupil') is not None)"
    )
    key = f"{prefix}:grant:{{run-results/early}}"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "publisher", "--redis-url", redis_url, "--prefix", prefix),
            *("run", "--session", "early", "--user", "pupil"),
            *("--", sys.executable, "-c", looking, primary_url, key),
        ],
        check=True,
        timeout=30,
        capture_output=True,
    )
    assert run.returncode == 0
    with Publisher.from_url(redis_url, prefix=prefix) as publisher:
        assert publisher.history("run-results/early")[0].data["stdout"] == "True\n"


@pytest.mark.parametrize(
    "command",
    [
        ("publish", "run-results/s", "1"),
        ("notify", "u", "--title", "t", "--message", "m"),
        ("run", "--session", "s"),
    ],
)
def test_a_message_that_too_few_replicas_confirm_fails_and_is_published(
    cli: Cli, publisher: Publisher, command: tuple[str, ...]
):
    """The Redis of the tests has fewer replicas."""
    rest = python("") if command[0] == "run" else ()
    run = cli(*command, "--min-replicas", "9", "--replica-timeout", "0.05", *rest)
    fails(run, 1, "is published, but only ")
    assert "of 9 replicas have it" in run.stderr
    channel = "notifications/u" if command[0] == "notify" else "run-results/s"
    assert len(publisher.history(channel)) == 1


def test_an_impossible_number_of_replicas_is_bad_input(cli: Cli):
    fails(cli("publish", "run-results/s", "1", "--min-replicas", "-1"), 2, "min_replicas")
    fails(cli("publish", "run-results/s", "1", "--replica-timeout", "0"), 2, "replica_timeout")
