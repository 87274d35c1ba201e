"""The programs of docs/recipes.md run as they stand there, in the frameworks that they are for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from publisher import AsyncPublisher, Entry
from tests.support.programs import require_program
from tests.support.redis_server import free_port
from tests.support.tokens import SECRET, verifier
from tests.support.topology import primary_url
from tests.support.waiting import until

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text("utf-8")
_START_SECONDS = 20.0


def recipe(name: str) -> str:
    """The program behind ``<!-- tested: name -->``."""
    (program,) = re.findall(rf"<!-- tested: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(program)


@dataclass
class Backend:
    """A folder in which programs of the page run, and what they have published."""

    folder: Path
    environment: Mapping[str, str]
    publisher: AsyncPublisher

    def write(self, file: str, text: str) -> None:
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")

    @contextlib.asynccontextmanager
    async def running(self, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.folder,
            env=os.environ | self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield process
        except BaseException as error:
            error.add_note(await self._end(process))
            raise
        await self._end(process)

    async def _end(self, process: asyncio.subprocess.Process) -> str:
        if process.returncode is None:
            process.terminate()
        output, _ = await asyncio.wait_for(process.communicate(), _START_SECONDS)
        return output.decode(errors="replace")

    async def run(self, *command: str) -> str:
        """Run a program to its end, and return what it said."""
        async with self.running(*command) as process:
            assert process.stdout is not None
            said = (await process.stdout.read()).decode()
            assert await process.wait() == 0, said
        return said

    async def published(self, channel: str = "notifications/user-456") -> list[Entry]:
        return await self.publisher.history(channel)


@pytest.fixture
async def backend(redis_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Backend]:
    environment = {
        "PUBLISHER_REDIS_URL": redis_url,
        "PUBLISHER_REDIS_PREFIX": prefix,
        "GATEWAY_JWT_SECRET": SECRET,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    async with AsyncPublisher.from_url(redis_url, prefix=prefix) as publisher:
        yield Backend(tmp_path, environment, publisher)


Ask = Callable[..., Awaitable[tuple[int, str]]]


@contextlib.asynccontextmanager
async def served(backend: Backend, port: int, *command: str) -> AsyncIterator[Ask]:
    """``await ask("POST", "/path")`` gives status and body, once the server answers."""
    async with backend.running(sys.executable, "-m", *command), aiohttp.ClientSession() as session:

        async def ask(method: str, path: str, **options: object) -> tuple[int, str]:
            url = f"http://127.0.0.1:{port}{path}"
            async with session.request(method, url, **options) as answer:  # type: ignore[arg-type]
                return answer.status, await answer.text()

        async def answers() -> bool:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                return bool(await ask("GET", "/"))
            return False

        await until(answers, _START_SECONDS)
        yield ask


async def test_fastapi_publishes_once_and_makes_tokens(backend: Backend) -> None:
    backend.write("main.py", recipe("fastapi"))
    port = free_port()
    async with served(backend, port, "uvicorn", "main:app", "--port", str(port)) as ask:
        answers = [await ask("POST", "/orders/7/paid") for _ in range(2)]
        _, token = await ask("GET", "/token")
    (entry,) = await backend.published()
    assert [(status, json.loads(body)) for status, body in answers] == [(200, {"id": entry.id})] * 2
    assert entry.data == {"title": "Paid", "message": "Order 7 is paid"}
    assert verifier(SECRET).verify(token).user == "user-456"


DJANGO = """\
import django
from django.conf import settings

settings.configure(
    DEBUG_PROPAGATE_EXCEPTIONS=True,
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF="shop.urls",
    INSTALLED_APPS=["shop"],
    LOGGING={
        "version": 1,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "loggers": {"django.db.backends.base": {"handlers": ["console"]}},
    },
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()

from django.db import connection, transaction
from django.test import Client

from shop.models import Order
from shop.notifying import publisher

with connection.schema_editor() as editor:
    editor.create_model(Order)
for number in 7, 8:
    Order.objects.create(pk=number, user_id="user-456")


class Changed(Exception):
    pass


try:
    with transaction.atomic():
        assert Client().post("/8/pay").status_code == 200
        raise Changed
except Changed:
    pass
assert not Order.objects.get(pk=8).paid
assert Client().post("/7/pay").json() == {"paid": True}
assert Client().post("/7/pay").json() == {"paid": True}
publisher().close()
# Nobody listens at port 1: the order is paid nevertheless.
import os

os.environ["PUBLISHER_REDIS_URL"] = "redis://127.0.0.1:1/0?socket_connect_timeout=0.1"
publisher.cache_clear()
assert Client().post("/8/pay").json() == {"paid": True}
"""

DJANGO_MODELS = """\
from django.db import models


class Order(models.Model):
    user_id = models.CharField(max_length=50)
    paid = models.BooleanField(default=False)
"""

DJANGO_URLS = """\
from django.urls import path

from shop.views import pay

urlpatterns = [path("<int:number>/pay", pay)]
"""


async def test_django_publishes_what_is_committed_and_nothing_else(backend: Backend) -> None:
    backend.write("shop/__init__.py", "")
    backend.write("shop/models.py", DJANGO_MODELS)
    backend.write("shop/urls.py", DJANGO_URLS)
    backend.write("shop/notifying.py", recipe("django notifying"))
    backend.write("shop/views.py", recipe("django views"))
    backend.write("try.py", DJANGO)
    said = await backend.run(sys.executable, "try.py")
    (entry,) = await backend.published()
    assert entry.data["message"] == "Order 7 is paid"
    assert "Unavailable" in said


async def test_celery_publishes_once_however_often_a_task_is_done(
    backend: Backend, redis_url: str, prefix: str
) -> None:
    backend.write("tasks.py", recipe("celery"))
    backend.environment = {
        **backend.environment,
        "CELERY_BROKER_URL": primary_url(redis_url),
        "CELERY_QUEUE": prefix,
    }
    send = "import tasks, sys\nfor _ in range(2): tasks.order_paid.apply_async((7, 'user-456'), queue=sys.argv[1])"
    await backend.run(sys.executable, "-c", send, prefix)
    worker = ("celery", "--app", "tasks", "worker", "--queues", prefix, "--concurrency", "1")
    quiet = ("--without-gossip", "--without-mingle", "--loglevel", "info")
    async with backend.running(sys.executable, "-m", *worker, *quiet) as process:
        assert process.stdout is not None
        done = 0
        async with asyncio.timeout(_START_SECONDS):
            while done < 2:
                done += b"succeeded" in await process.stdout.readline()
    (entry,) = await backend.published()
    assert entry.data["message"] == "Order 7 is paid"


async def test_flask_shows_what_a_program_wrote(backend: Backend) -> None:
    backend.write("app.py", recipe("flask"))
    port = free_port()
    async with served(backend, port, "flask", "run", "--port", str(port)) as ask:
        status, body = await ask("POST", "/sessions/demo/runs", data=b"print(6 * 7)")
    (entry,) = await backend.published("run-results/demo")
    assert (status, json.loads(body)["id"]) == (201, entry.id)
    assert (entry.data["stdout"], entry.data["exitCode"]) == ("42\n", 0)


async def test_a_token_that_node_makes_is_accepted(backend: Backend) -> None:
    node = require_program("node")
    backend.write("token.mjs", recipe("node"))
    script = "import('./token.mjs').then((made) => console.log(made.realtimeToken('张三')))"
    said = await backend.run(node, "-e", script)
    assert verifier(SECRET).verify(said.strip()).user == "张三"


def test_each_program_of_the_page_is_tried_here_or_in_the_browser() -> None:
    folder = Path(__file__).parents[1] / "browser"
    browser = "".join(
        (folder / f"test_{name}.py").read_text("utf-8") for name in ("frameworks", "mini_program")
    )
    tried = re.findall(r'recipe\("(.*?)"\)', Path(__file__).read_text("utf-8"))
    for name in re.findall(r"<!-- tested: (.*?) -->", PAGE):
        assert name in tried or f'"{name}"' in browser, name
