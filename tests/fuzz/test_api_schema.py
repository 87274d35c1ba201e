"""The HTTP API keeps to its OpenAPI document, whatever Schemathesis makes of it and sends."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from gateway.api.endpoints import ENDPOINTS
from tests.support.api import KEY, keys_in
from tests.support.processes import gateway_process
from tests.support.redis_server import free_port

ROOT = Path(__file__).parents[2]
_SECONDS = 20
_FEWEST_CASES = 100


@pytest.mark.long
@pytest.mark.timeout(150)
async def test_it_answers_as_its_document_says(redis_url: str, prefix: str, tmp_path: Path) -> None:
    port = free_port()
    settings = {"api_port": port, "api_keys": f"@{keys_in(tmp_path)}"}
    async with gateway_process(redis_url, prefix, **settings) as gateway:
        # Which namespaces there are, and which moments are over, no document says: what is valid may be refused.
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("schemathesis")), "run"),
            f"http://127.0.0.1:{port}/v1/openapi.json",
            *("--header", f"Authorization: Bearer {KEY}"),
            *("--exclude-checks", "positive_data_acceptance"),
            # An answer without an end: tests/integration/test_inspection.py reads it.
            *("--exclude-path", "/v1/watch"),
            *("--max-time", str(_SECONDS), "--request-timeout", "20", "--no-color"),
            cwd=tmp_path,
            env=os.environ
            | {"SCHEMATHESIS_HOOKS": "tests.fuzz.api_hooks", "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0, output
        assert re.search(rf"Tested: +{len(ENDPOINTS) - 1}\b", output), output
        (cases,) = re.findall(r"(\d+) generated", output)
        assert int(cases) > _FEWEST_CASES, output
        assert "ERROR" not in gateway.output
        assert "api_failed" not in gateway.output
