"""The deployment of compose.yaml as processes of this machine: `make cluster`, and one Ctrl-C ends them all.

Redis with an append-only file, three gateways with the HTTP API, nginx, Prometheus, Alertmanager and Grafana, with the configurations of this folder. What is
not installed is left out, but for Redis and the gateways.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.cluster_processes import CannotStart, Processes, Service
from gateway.development.login import development_api_key, development_secret
from gateway.development.redis_server import server_binary

DEPLOY: Final = Path(__file__).parent
GATEWAYS: Final = 3
HOST: Final = "127.0.0.1"

SCOPES: Final = ("publish", "grant", "read", "disconnect")
"""What the key of the HTTP API may do, as in compose.yaml."""

REDIS_OPTIONS: Final = (
    *("--appendonly", "yes", "--appendfsync", "everysec"),
    *("--maxmemory", "1gb", "--maxmemory-policy", "noeviction"),
    *("--client-output-buffer-limit", "pubsub 256mb 64mb 60"),
)
"""Those of compose.yaml."""


@dataclass(frozen=True)
class Ports:
    """All ports follow the first one, at which clients connect."""

    base: int

    @property
    def clients(self) -> int:
        return self.base

    @property
    def gateways(self) -> list[int]:
        return [self.base + 1 + number for number in range(GATEWAYS)]

    @property
    def internal(self) -> list[int]:
        return [self.base + 4 + number for number in range(GATEWAYS)]

    @property
    def redis(self) -> int:
        return self.base + 7

    @property
    def prometheus(self) -> int:
        return self.base + 8

    @property
    def alertmanager(self) -> int:
        return self.base + 9

    @property
    def grafana(self) -> int:
        return self.base + 10

    @property
    def api(self) -> list[int]:
        return [self.base + 11 + number for number in range(GATEWAYS)]

    def require_free(self) -> None:
        """Raises CannotStart where one is in use."""
        for port in range(self.base, self.api[-1] + 1):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise CannotStart(
                        f"port {port} cannot be had ({error.strerror}); make cluster BASE_PORT={self.base + 100} takes others"
                    ) from None


def redis(folder: Path, ports: Ports) -> Service:
    (folder / "redis").mkdir(exist_ok=True)
    command = (
        *(str(server_binary()), "--bind", HOST, "--port", str(ports.redis)),
        *("--dir", str(folder / "redis"), *REDIS_OPTIONS),
    )
    return Service(
        "redis", f"redis://{HOST}:{ports.redis}/0", command, f"tcp://{HOST}:{ports.redis}"
    )


@dataclass(frozen=True)
class Secrets:
    """Made at the first start, and kept in the folder: what signs the tokens, and a key of the HTTP API."""

    jwt: str
    api_key: str


def gateway(number: int, ports: Ports, secrets: Secrets) -> Service:
    name, port, internal = f"gateway-{number + 1}", ports.gateways[number], ports.internal[number]
    environment = {
        "GATEWAY_NODE_NAME": name,
        "GATEWAY_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "GATEWAY_INTERNAL_PORT": str(internal),
        "GATEWAY_REDIS_URL": f"redis://{HOST}:{ports.redis}/0",
        "GATEWAY_JWT_SECRET": secrets.jwt,
        "GATEWAY_API_PORT": str(ports.api[number]),
        "GATEWAY_API_KEYS": json.dumps({"backend": {"key": secrets.api_key, "scopes": SCOPES}}),
        "GATEWAY_TRUSTED_PROXIES": HOST,
        "GATEWAY_DRAIN_DELAY_SECONDS": "0",
        "GATEWAY_DRAIN_SECONDS": "2",
    }
    command = (sys.executable, "-m", "gateway", "serve")
    check = f"http://{HOST}:{internal}/readyz"
    return Service(name, f"ws://{HOST}:{port}", command, check, environment)


def nginx(program: str, folder: Path, ports: Ports) -> Service:
    below = folder / "nginx"
    command = configure_nginx(program, below, ports.clients, ports.gateways)
    return Service(
        "nginx", f"ws://{HOST}:{ports.clients}", command, f"http://{HOST}:{ports.clients}/healthz"
    )


def configure_nginx(
    program: str, folder: Path, port: int, gateways: Sequence[int]
) -> tuple[str, ...]:
    """The nginx.conf of this folder with addresses of this machine, in ``folder``; returns the command that runs it."""
    folder.mkdir(exist_ok=True)
    shutil.copy(DEPLOY / "nginx" / "nginx.conf", folder)
    # Its temporary folders too: those it was built with are for root alone.
    places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{name}_temp_path {folder / name};\n" for name in places)
    listen = (DEPLOY / "nginx" / "listen.conf").read_text()
    listen = listen.replace("80 default_server", f"{HOST}:{port}")
    (folder / "listen.conf").write_text(f"{listen}\n{temporary}")
    (folder / "upstream.conf").write_text(
        "".join(f"server {HOST}:{each} max_fails=0;\n" for each in gateways)
    )
    options = ("-p", str(folder), "-c", str(folder / "nginx.conf"))
    return (program, *options, "-g", f"daemon off; pid {folder / 'nginx.pid'};")


def prometheus(program: str, folder: Path, ports: Ports) -> Service:
    below = folder / "prometheus"
    below.mkdir(exist_ok=True)
    copied(DEPLOY / "prometheus", below, ports)
    url = f"http://{HOST}:{ports.prometheus}"
    command = (
        *(program, f"--config.file={below / 'prometheus.yml'}"),
        *(
            f"--storage.tsdb.path={below / 'data'}",
            f"--web.listen-address={HOST}:{ports.prometheus}",
        ),
    )
    return Service("prometheus", url, command, f"{url}/-/ready")


def alertmanager(program: str, folder: Path, ports: Ports) -> Service:
    below = folder / "alertmanager"
    below.mkdir(exist_ok=True)
    url = f"http://{HOST}:{ports.alertmanager}"
    command = (
        *(program, f"--config.file={DEPLOY / 'alertmanager' / 'alertmanager.yml'}"),
        *(f"--storage.path={below}", f"--web.listen-address={HOST}:{ports.alertmanager}"),
        "--cluster.listen-address=",
    )
    return Service("alertmanager", url, command, f"{url}/-/ready")


def grafana(program: str, folder: Path, ports: Ports) -> Service:
    below = folder / "grafana"
    below.mkdir(exist_ok=True)
    copied(DEPLOY / "grafana", below, ports)
    url = f"http://{HOST}:{ports.grafana}"
    environment = {
        "GF_PATHS_PROVISIONING": str(below / "provisioning"),
        "GF_PATHS_DATA": str(below / "data"),
        "GF_PATHS_LOGS": str(below / "logs"),
        "GF_SERVER_HTTP_ADDR": HOST,
        "GF_SERVER_HTTP_PORT": str(ports.grafana),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
    }
    command = (program, "server", "--homepath", "/usr/share/grafana")
    return Service("grafana", url, command, f"{url}/api/health", environment)


def copied(source: Path, target: Path, ports: Ports) -> None:
    """Copy a folder of configurations, with the addresses of this machine in the place of compose.yaml's."""
    addresses = {
        **{
            f"gateway-{number}:9300": f"{HOST}:{port}"
            for number, port in enumerate(ports.internal, 1)
        },
        "prometheus:9090": f"{HOST}:{ports.prometheus}",
        "alertmanager:9093": f"{HOST}:{ports.alertmanager}",
        "/etc/grafana/dashboards": str(target / "dashboards"),
    }
    for path in source.rglob("*"):
        if path.is_file():
            text = path.read_text("utf-8")
            for theirs, ours in addresses.items():
                text = text.replace(theirs, ours)
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, "utf-8")


_OPTIONAL: Final[dict[str, Callable[[str, Path, Ports], Service]]] = {
    "nginx": nginx,
    "prometheus": prometheus,
    "alertmanager": alertmanager,
    "grafana": grafana,
}


def planned(folder: Path, ports: Ports, secrets: Secrets) -> tuple[list[Service], list[str]]:
    """The services in the order in which they start, and the names of those whose programs are not installed."""
    services = [redis(folder, ports)]
    services += [gateway(number, ports, secrets) for number in range(GATEWAYS)]
    missing = []
    for name, make in _OPTIONAL.items():
        program = find(name)
        if program is None:
            missing.append(name)
        else:
            services.append(make(program, folder, ports))
    return services, missing


def find(name: str) -> str | None:
    # Debian keeps servers in sbin, which is not on every user's PATH, and has a prefix for this one.
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return shutil.which(name, path=path) or shutil.which(f"prometheus-{name}", path=path)


async def serve(base: int, folder: Path) -> None:
    ports = Ports(base)
    ports.require_free()
    secret = development_secret(folder, create=True)
    assert secret is not None
    key, file = development_api_key(folder)
    services, missing = planned(folder, ports, Secrets(secret, key))
    also = {"api": f"http://{HOST}:{ports.api[0]}", "api-key": file.as_uri()}
    also |= dict.fromkeys(missing, "not installed, goes without")
    also |= {"logs": folder.as_uri()}
    processes = Processes(folder)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, processes.end)
    # Redis, the gateways, and what looks at them. Redis ends last: gateways give their users' places back.
    groups = services[:1], services[1 : GATEWAYS + 1], services[GATEWAYS + 1 :]
    await processes.run(groups, also)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--base-port",
        type=int,
        default=4000,
        metavar="PORT",
        help="the first of fourteen ports, at which clients connect (default: 4000)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(".gateway/cluster"),
        help="for data, logs and the configurations as they are used (default: .gateway/cluster)",
    )
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.base_port, options.folder.absolute()))
    except CannotStart as error:
        sys.exit(f"cluster: {error}")


if __name__ == "__main__":
    main()
