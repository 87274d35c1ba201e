"""Whoever lacks the toolchain of another language is told so, and can still land a change."""

from __future__ import annotations

import pytest

from tests.clients import toolchains
from tests.support.programs import require_toolchain

ADVICE = "some.example has it"


@pytest.fixture(autouse=True)
def all_tests_must_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_ALL_TESTS", "1")


def test_a_missing_toolchain_skips_with_advice_wherever_it_is() -> None:
    with pytest.raises(pytest.skip.Exception, match=rf"no-such-compiler .*: {ADVICE}"):
        require_toolchain("no-such-compiler", "/nowhere", ADVICE)


def test_a_toolchain_is_found_where_its_installer_puts_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("installed")
    compiler = folder / "some-compiler"
    compiler.touch(mode=0o755)
    assert require_toolchain("some-compiler", f"/nowhere:{folder}", ADVICE) == str(compiler)


def test_packages_that_cannot_be_downloaded_skip_and_a_build_that_fails_does_not() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"tests/clients/go .*false"):
        toolchains._download("false", folder="go")
    with pytest.raises(RuntimeError, match="false"):
        toolchains._run("false", folder="go")
