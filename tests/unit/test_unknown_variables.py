"""What Kubernetes puts into the environment for Services whose names begin like our settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import parser
from gateway.options import advice, load_settings
from gateway.settings import Settings, UsageError

HINT = "enableServiceLinks: false"


def service_links(service: str, port: int, *, named: str = "") -> dict[str, str]:
    """What every container gets for a Service (Kubernetes, Service: environment variables)."""
    name = service.upper().replace("-", "_")
    address = f"tcp://10.0.0.1:{port}"
    links = {
        f"{name}_SERVICE_HOST": "10.0.0.1",
        f"{name}_SERVICE_PORT": str(port),
        f"{name}_PORT": address,
        f"{name}_PORT_{port}_TCP": address,
        f"{name}_PORT_{port}_TCP_PROTO": "tcp",
        f"{name}_PORT_{port}_TCP_PORT": str(port),
        f"{name}_PORT_{port}_TCP_ADDR": "10.0.0.1",
    }
    return links | ({f"{name}_SERVICE_PORT_{named}": str(port)} if named else {})


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    def loaded(variables: dict[str, str], *arguments: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load_settings(parser().parse_args(["serve", *arguments]))

    return loaded


@pytest.mark.parametrize(
    "service", ["gateway", "gateway-internal", "gateway-redis", "gateway-metrics"]
)
def test_a_service_of_any_name_sets_nothing_and_is_told_in_one_line(load, service: str) -> None:
    links = service_links(service, 4001, named="WS")
    settings = load(links)
    assert (settings.port, settings.internal_port) == (3001, 9300)
    (line,) = advice(links)
    assert f"GATEWAY{service.removeprefix('gateway').upper().replace('-', '_')}" in line
    assert HINT in line
    assert "no such setting" not in line


def test_several_services_are_told_in_one_line_with_the_setting_first(load) -> None:
    links = {
        **service_links("gateway", 4001),
        **service_links("gateway-redis", 6379),
        **service_links("gateway-internal", 9300),
    }
    assert load(links).port == 3001
    (line,) = advice(links)
    assert line.startswith("Kubernetes has set GATEWAY_INTERNAL_PORT and 20 more")


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:3001", "udp://[fd00::1]:3001", "SCTP://h:1"])
def test_a_port_that_kubernetes_has_set_gives_way_to_the_file_and_the_option(
    load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("port = 4002\n")
    monkeypatch.setenv("GATEWAY_CONFIG", str(config))
    assert load({"GATEWAY_PORT": address}).port == 4002
    assert load({"GATEWAY_PORT": address}, "--port", "4003").port == 4003


def test_a_port_of_our_own_is_a_setting_beside_service_links(load) -> None:
    links = service_links("gateway", 4001) | {"GATEWAY_PORT": "4004"}
    assert load(links).port == 4004
    (line,) = advice(links)
    assert "GATEWAY_PORT and" not in line


def test_a_misspelt_key_of_the_file_is_told_with_its_neighbour(load, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("max_connection = 5\nquux = 1\n")
    with pytest.raises(UsageError) as wrong:
        load({"GATEWAY_CONFIG": str(config)})
    lines = str(wrong.value).splitlines()[1:]
    assert "  max_connection: there is no such setting; did you mean max_connections?" in lines
    assert "  quux: there is no such setting" in lines


def test_a_misspelt_setting_is_told_with_its_neighbour() -> None:
    wrong = ("GATEWAY_PROT", "GATEWAY_PORTS", "GATEWAY_MAX_SUBSCRIPTION", "GATEWAY_QUUX")
    found = advice(dict.fromkeys((*wrong, "GATEWAY_CONFIG", "PORT"), "3001"))
    assert found == [
        "GATEWAY_MAX_SUBSCRIPTION is set, but there is no such setting; did you mean GATEWAY_MAX_SUBSCRIPTIONS?",
        "GATEWAY_PORTS is set, but there is no such setting; did you mean GATEWAY_PORT?",
        "GATEWAY_PROT is set, but there is no such setting; did you mean GATEWAY_PORT?",
        "GATEWAY_QUUX is set, but there is no such setting",
    ]
