"""The client of docs/frontend.md in a strict TypeScript project."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser.documentation import PAGE, examples
from tests.support.programs import require_program

COMMON = ("--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler")
STRICT = ("--strict", "--noEmit", "--lib", "es2022,dom", *COMMON)

# What the example's reader has, with the types that the protocol says.
GIVEN = """\
import { WebSocketClient } from './client.js';

declare const sessionId: string, userId: string;
declare function getToken(): Promise<string>;
declare function showResult(result: { stdout: string; stderr: string; exitCode: number; duration: number }): void;
declare function showNotification(
  notification: { title: string; message: string; action?: string; requestId?: string },
): void;
declare function reload(channel: string): void;
declare function showError(code: string, message: string, channel: string | undefined): void;
declare function showEnded(channel: string, reason: string): void;
declare function showLogin(code: number, reason: string): void;
"""

# What must be an error: the types are not `any`.
MISTAKES = """\
// @ts-expect-error - a run result has no such field
client.onRunResult = (result) => result.exit;
// @ts-expect-error - a channel may be missing
client.onError = ({ channel }) => reload(channel);
// @ts-expect-error - a channel has a name
client.subscribe(5);
"""

Tsc = Callable[..., None]


@pytest.fixture
def tsc(js: Path, tmp_path: Path) -> Tsc:
    """``tsc(*arguments)`` runs the compiler in a folder with the client and a program that uses it."""
    node = require_program("node")
    client, use, page = examples()
    (tmp_path / "client.js").write_text(client, "utf-8")
    (tmp_path / "use.ts").write_text(f"{GIVEN}\n{use}\n{page}\n{MISTAKES}", "utf-8")

    def run(*arguments: str) -> None:
        compiler = js / "node_modules" / "typescript" / "bin" / "tsc"
        done = subprocess.run(
            [node, str(compiler), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_the_client_and_its_use_compile_in_strict_typescript(tsc: Tsc) -> None:
    tsc("use.ts", "--allowJs", "--checkJs", *STRICT)


def test_a_project_without_javascript_can_have_its_declarations(tsc: Tsc) -> None:
    (command,) = re.findall(r"`npx -p typescript tsc (.*?)`", PAGE.read_text("utf-8"))
    tsc(*command.split())
    tsc("use.ts", *STRICT)
