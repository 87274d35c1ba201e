"""The Helm chart, and the plain manifests that are made from it: held against Kubernetes's own schemas; no cluster is needed.

The manifests are the chart's work with its defaults, so most of what is shown of them is shown of the chart. Where Helm is installed, the chart
is rendered anew and with other values.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings
from tests.deploy import chart_settings
from tests.support.programs import require_module, require_toolchain

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm"
MANIFESTS = DEPLOY / "kubernetes"
VERSIONS = ("1.27", "1.37")
"""The oldest that the chart admits, and the newest whose schemas are at hand."""
OPERATORS = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus Operator, whose schemas Kubernetes has not."""


def documents(text: str) -> list[Any]:
    return [each for each in require_module("yaml").safe_load_all(text) if each]


def committed(*names: str) -> list[Any]:
    """What is in these files; unless named, in those of a gateway by default and what watches it."""
    names = names or ("gateway", "autoscaling", "monitoring")
    return [each for name in names for each in documents((MANIFESTS / f"{name}.yaml").read_text())]


def of_kind(kind: str, given: list[Any] | None = None) -> Any:
    (found,) = [each for each in (committed() if given is None else given) if each["kind"] == kind]
    return found


def pod(given: list[Any] | None = None) -> Any:
    return of_kind("Deployment", given)["spec"]["template"]["spec"]


def container(given: list[Any] | None = None) -> Any:
    (only,) = pod(given)["containers"]
    return only


def environment(given: list[Any] | None = None) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(given)["env"]}


def values() -> Any:
    return require_module("yaml").safe_load((CHART / "values.yaml").read_text())


def check(manifests: list[Any]) -> None:
    """Each fits the schema of its kind, in each version; nothing unknown is in it."""
    validate = require_module("kubernetes_validate")
    for manifest in manifests:
        for each in VERSIONS if manifest["kind"] not in OPERATORS else ():
            validate.validate(manifest, each, strict=True)


# -- the manifests ------------------------------------------------------------------------------


def test_kubernetes_understands_the_manifests() -> None:
    files = [path.stem for path in MANIFESTS.glob("*.yaml")]
    assert set(files) == {"gateway", "api", "webhooks", "autoscaling", "monitoring"}
    check(committed(*files))
    assert {each["kind"] for each in committed()} == {
        *("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"),
        *("HorizontalPodAutoscaler", "ServiceMonitor"),
    }


def test_a_mistake_in_a_manifest_is_found() -> None:
    manifest = of_kind("Deployment")
    manifest["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(require_module("kubernetes_validate").ValidationError):
        check([manifest])


def test_the_settings_of_the_container_exist_and_are_enough_to_serve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dockerfile: list[str]
) -> None:
    given = environment()
    secrets = {name: each for name, each in given.items() if each.startswith("@")}
    assert set(secrets) == {"GATEWAY_REDIS_URL", "GATEWAY_JWT_SECRET"}
    for name, text in {
        "redis_url": "redis://redis:6379/0",
        "jwt_secret": "s" * 31 + "ecret",
    }.items():
        (tmp_path / name).write_text(text)
    for name, value in given.items():
        assert name.removeprefix("GATEWAY_").lower() in Settings.model_fields
        monkeypatch.setenv(name, value.replace("@/run/secrets/gateway", f"@{tmp_path}"))
    settings = Settings()
    assert settings.redis_url is not None
    assert settings.max_connections == values()["settings"]["max_connections"]
    image = " ".join(dockerfile)
    for port in container()["ports"]:
        assert f"_PORT={port['containerPort']}" in image
    assert f"USER {pod()['securityContext']['runAsUser']}" in dockerfile


def test_secrets_are_files_from_a_secret_and_in_no_variable() -> None:
    assert not any("valueFrom" in each for each in container()["env"])
    (volume,) = pod()["volumes"]
    paths = {
        item["path"]: source["secret"]["name"]
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    (mount,) = container()["volumeMounts"]
    for value in environment().values():
        if value.startswith("@"):
            assert value == f"@{mount['mountPath']}/{Path(value).name}"
            assert Path(value).name in paths


def test_the_grace_period_fits_the_drain() -> None:
    delay, drain = (float(environment()[f"GATEWAY_DRAIN_{part}SECONDS"]) for part in ("DELAY_", ""))
    assert pod()["terminationGracePeriodSeconds"] >= delay + drain + 10
    probe = container()["readinessProbe"]
    # Long enough for the endpoint to go, by deletion or by readiness.
    assert delay > probe["periodSeconds"] * probe["failureThreshold"]


def test_the_probes_ask_for_pages_that_the_internal_port_has() -> None:
    each = container()
    assert each["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "internal"}
    assert each["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "internal"}


def test_all_select_the_pods() -> None:
    labels = of_kind("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    services = [each for each in committed() if each["kind"] == "Service"]
    assert len(services) == 2
    selectors = [
        of_kind("Deployment")["spec"]["selector"]["matchLabels"],
        of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(each["spec"]["selector"] for each in services),
        *(each["labelSelector"]["matchLabels"] for each in pod()["topologySpreadConstraints"]),
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)
    monitored = of_kind("ServiceMonitor")["spec"]
    matching = [
        each
        for each in services
        if monitored["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
    ]
    # The port for clients is not asked for metrics; and the job has the name that the alerts know.
    assert [each["spec"]["ports"][0]["name"] for each in matching] == ["internal"]
    assert matching[0]["metadata"]["labels"][monitored["jobLabel"]] == "gateway"
    assert 'job="gateway"' in (DEPLOY / "prometheus" / "alerts.yml").read_text()
    assert (
        of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"]
        == (of_kind("Deployment")["metadata"]["name"])
    )


def test_nobody_but_prometheus_reaches_the_internal_port() -> None:
    clients, internal = of_kind("NetworkPolicy")["spec"]["ingress"]
    assert "from" not in clients
    assert [each["port"] for each in clients["ports"]] == ["clients"]
    assert [each["port"] for each in internal["ports"]] == ["internal"]
    assert internal["from"]


@pytest.mark.parametrize("name", ["gateway", "api", "webhooks"])
def test_the_container_may_do_little(name: str) -> None:
    given = committed(name)
    assert pod(given)["securityContext"]["runAsNonRoot"]
    assert pod(given)["automountServiceAccountToken"] is False
    assert container(given)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


# -- the HTTP API, and webhooks --------------------------------------------------------------------


def test_the_manifest_with_the_api_changes_nothing_else() -> None:
    """It is applied in the place of what is in gateway.yaml under the same names."""
    plain, with_api = by_name(committed("gateway")), by_name(committed("api"))
    assert with_api.keys() - plain.keys() == {("Service", "realtime-gateway-api")}
    ours, theirs = (container(list(each.values())) for each in (plain, with_api))
    added = environment(committed("api")).items() - environment().items()
    assert {name for name, _ in added} == {
        f"GATEWAY_API_{each}" for each in ("HOST", "PORT", "KEYS")
    }
    assert [each for each in theirs["ports"] if each not in ours["ports"]] == [
        {"name": "api", "containerPort": 9400}
    ]
    for each in (ours, theirs):
        del each["env"], each["ports"]
    assert ours == theirs


def test_the_api_has_a_service_that_only_its_own_namespace_reaches() -> None:
    given = committed("api")
    service = of_kind("Service", given)
    labels = of_kind("Deployment", given)["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["type"] == "ClusterIP"
    assert service["spec"]["selector"].items() <= labels.items()
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (9400, "api")
    # Prometheus does not take it for a port with metrics.
    monitored = of_kind("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert not monitored.items() <= service["metadata"]["labels"].items()
    rule = of_kind("NetworkPolicy", given)["spec"]["ingress"][-1]
    assert rule == {"ports": [{"protocol": "TCP", "port": "api"}], "from": [{"podSelector": {}}]}


def test_the_settings_of_the_container_with_the_api_exist_and_its_keys_are_a_file() -> None:
    given = environment(committed("api"))
    assert {name.removeprefix("GATEWAY_").lower() for name in given} <= set(Settings.model_fields)
    assert given["GATEWAY_API_KEYS"] == "@/run/secrets/gateway/api_keys"
    assert given["GATEWAY_API_HOST"] == "0.0.0.0"


async def test_the_webhooks_of_the_manifest_start_and_miss_nothing(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    """The very arguments and variables of the container, but for its files' folder."""
    given = committed("webhooks")
    (mount,) = container(given)["volumeMounts"]
    items = [
        item["path"]
        for source in pod(given)["volumes"][0]["projected"]["sources"]
        for item in source["secret"]["items"]
    ]
    for name, text in {"secret": "whsec_" + "s" * 32, "redis_url": redis_url}.items():
        assert name in items
        (tmp_path / name).write_text(text)

    def here(text: str) -> str:
        return text.replace(mount["mountPath"], str(tmp_path))

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *map(here, container(given)["args"])),
        env=os.environ
        | {name: here(value) for name, value in environment(given).items()}
        | {"GATEWAY_REDIS_PREFIX": prefix},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    line = await process.stderr.readline()
    process.terminate()
    assert b"webhooks_started" in line
    await process.communicate()
    assert process.returncode == 0


def test_no_service_and_no_policy_of_the_gateways_takes_the_webhooks_for_one() -> None:
    given = committed("webhooks")
    labels = of_kind("Deployment", given)["spec"]["template"]["metadata"]["labels"].items()
    assert of_kind("Deployment", given)["spec"]["selector"]["matchLabels"].items() <= labels
    others = [
        of_kind("Deployment")["spec"]["selector"]["matchLabels"],
        of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(each["spec"]["selector"] for each in committed() if each["kind"] == "Service"),
    ]
    assert not any(selector.items() <= labels for selector in others)
    # Nobody reaches them.
    policy = of_kind("NetworkPolicy", given)["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels
    assert policy["policyTypes"] == ["Ingress"]
    assert "ingress" not in policy


def test_the_chart_is_for_this_version() -> None:
    chart = require_module("yaml").safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version("realtime-gateway")


# -- the values ---------------------------------------------------------------------------------


REFERENCE = {"name": "a", "key": "b"}
WEBHOOKS = {"enabled": True, "group": "g", "secret": REFERENCE, "redisUrl": REFERENCE}


def schema() -> Any:
    return json.loads((CHART / "values.schema.json").read_text())


def test_the_schema_knows_every_value_and_no_other() -> None:
    require_module("jsonschema").validate(values(), schema())
    assert set(schema()["properties"]) == {*values(), "global"}
    for name, given in values().items():
        known = schema()["properties"][name]
        if name in chart_settings.sections():
            assert set(given) < set(known["properties"]), name
        elif isinstance(given, dict) and "properties" in known:
            assert set(known["properties"]) == set(given), name


@pytest.mark.parametrize(
    "change",
    [
        {"replica": 3},
        {"replicas": "3"},
        {"image": {"repository": ""}},
        {"image": {"repository": "x", "digest": "latest"}},
        {"secrets": {"jwt_secret": {"name": "x", "key": "y"}}},
        {"secrets": {"redis_url": {"name": "x"}}},
        {"settings": {"redis_url": "redis://:password@redis"}},
        {"settings": {"port": 80}},
        {"settings": {"MAX_CONNECTIONS": 80}},
        {"settings": {"api_port": 80}},
        {"settings": {"max_conections": 80}},
        {"settings": {"max_connections": "many"}},
        {"settings": {"log_format": "xml"}},
        {"settings": {"compression": "perhaps"}},
        {"secrets": {"redis_url": REFERENCE, "jwt_secrets": REFERENCE}},
        {"drain": {"preStopSeconds": -1, "delaySeconds": 1, "seconds": 1}},
        # A setting among what are none; a name that no variable has.
        {"environment": {"GATEWAY_PORT": "80"}},
        {"environment": {"otel": "x"}},
        # Without keys; at a port of another kind.
        {"api": {"enabled": True, "port": 9400}},
        {"api": {"enabled": False, "port": 9300}},
        # Without a URL, or without events.
        {"webhooks": {**WEBHOOKS, "url": ""}, "settings": {"events": "connected"}},
        {"webhooks": {**WEBHOOKS, "url": "https://backend.example.com"}},
        {"webhooks": {**WEBHOOKS, "url": "http://backend"}, "settings": {"events": "connected"}},
        {
            "webhooks": {**WEBHOOKS, "url": "", "urlSecret": {"name": "a"}},
            "settings": {"events": "connected"},
        },
    ],
    ids=str,
)
def test_a_mistake_in_the_values_is_refused(change: dict[str, Any]) -> None:
    jsonschema = require_module("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**values(), **change}, schema())


def patterns(part: Any) -> Iterator[str]:
    for name, each in part.items() if isinstance(part, dict) else enumerate(part):
        if name == "pattern" and isinstance(each, str):
            yield each
        elif isinstance(each, dict | list):
            if name == "patternProperties":
                yield from each
            yield from patterns(each)


BEYOND_RE2 = re.compile(r"\(\?(?!:)|\\[1-9kZ]|[*+?}][+]")
"""Look-arounds, back-references, what takes without giving back, Python's own end: Go's regular expressions have none of these."""


def test_helm_understands_every_pattern_of_the_schema() -> None:
    """One that Go cannot compile makes Helm refuse all values, whatever they are."""
    found = list(patterns(schema()))
    assert len(found) > 5
    assert [each for each in found if BEYOND_RE2.search(each)] == []
    for beyond in (r"^(?!A)B", r"(?<=a)b", r"(a)\1", r"(?P<n>a)(?P=n)", r"a++", r"a\Z"):
        assert BEYOND_RE2.search(beyond), beyond


def test_the_schema_has_the_settings_that_there_are() -> None:
    for name, properties in chart_settings.sections().items():
        assert schema()["properties"][name]["properties"] == properties, (
            "run python -m tests.deploy.chart_settings"
        )


# -- the chart, where Helm is installed -----------------------------------------------------------


@pytest.fixture(scope="module")
def helm() -> str:
    advice = "helm.sh has it, or `go install helm.sh/helm/v3/cmd/helm@latest`"
    return require_toolchain("helm", str(Path.home() / "go" / "bin"), advice)


def rendered(helm: str, *options: str) -> list[Any]:
    done = template(helm, *options)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def template(helm: str, *options: str) -> subprocess.CompletedProcess[str]:
    # A Helm that was built without its release's flags takes clusters for old ones.
    version = ("--kube-version", f"{VERSIONS[-1]}.0")
    return run(helm, "template", "realtime-gateway", str(CHART), *version, *options)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_manifests_are_those_of_the_chart(helm: str, tmp_path: Path) -> None:
    done = run("make", "-C", str(ROOT), "manifests", f"HELM={helm}", f"MANIFESTS={tmp_path}")
    assert done.returncode == 0, done.stderr
    for path in MANIFESTS.glob("*.yaml"):
        made = documents((tmp_path / path.name).read_text())
        assert by_name(made) == by_name(documents(path.read_text()))


def by_name(manifests: list[Any]) -> dict[tuple[str, str], Any]:
    return {(each["kind"], each["metadata"]["name"]): each for each in manifests}


def test_the_commands_of_the_documentation_render(helm: str) -> None:
    """One after the other, as `--reset-then-reuse-values` adds them up."""
    lines = (ROOT / "docs" / "deployment.md").read_text().splitlines()
    commands = [shlex.split(each) for each in lines if re.match("helm (install|upgrade) ", each)]
    assert len(commands) == 3
    options: list[str] = []
    for command in commands:
        assert command[2:4] == ["realtime-gateway", "deploy/helm"]
        options += [each for each in command[4:] if each != "--reset-then-reuse-values"]
        check(rendered(helm, *options))
    assert {each["metadata"]["name"] for each in rendered(helm, *options)} == {
        f"realtime-gateway{part}" for part in ("", "-metrics", "-api", "-webhooks")
    }


def test_helm_finds_nothing_to_complain_of(helm: str) -> None:
    done = run(helm, "lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


def everything() -> Iterator[str]:
    for each in (
        *("autoscaling.enabled=true", "monitoring.serviceMonitor=true"),
        *("monitoring.prometheusRule=true", "monitoring.labels.release=prometheus"),
        *("tls.secretName=realtime-tls", "drain.preStopSeconds=5", "service.type=LoadBalancer"),
        *("imagePullSecrets[0].name=registry", "priorityClassName=high", "podLabels.a=b"),
        *("podAnnotations.a=b", "nodeSelector.a=b", "service.annotations.a=b"),
        *("tolerations[0].key=a", "networkPolicy.egress[0].ports[0].port=6379"),
        *("networkPolicy.clients[0].podSelector.matchLabels.app=ingress",),
        *("settings.max_connections=1000000", "settings.compression=false"),
        *("settings.coalesce_seconds=0.5", "image.digest=sha256:" + "0" * 64),
        *("secrets.encryption_keys.name=keys", "secrets.encryption_keys.key=ring"),
        *("api.enabled=true", "secrets.api_keys.name=keys", "secrets.api_keys.key=api"),
        *("webhooks.enabled=true", "webhooks.url=https://backend.example.com/hooks?a=b"),
        *("settings.events=connected", "settings.redis_prefix=shop"),
        *("environment.OTEL_SERVICE_NAME=shop", "environmentSecrets={tracing}"),
    ):
        yield from ("--set", each)


def test_the_chart_with_everything_is_as_kubernetes_wants_it(helm: str) -> None:
    manifests = rendered(helm, *everything())
    check(manifests)
    assert len(manifests) == 11
    hooks = [each for each in manifests if each["metadata"]["name"].endswith("-webhooks")]
    assert "--url=https://backend.example.com/hooks?a=b" in container(hooks)["args"]
    # It reads what the gateways write, and is given nothing else of them.
    variables = set(environment(hooks))
    assert variables == {"PUBLISHER_REDIS_URL", "GATEWAY_REDIS_PREFIX", "GATEWAY_LOG_FORMAT"}
    manifests = [each for each in manifests if each not in hooks]
    given = environment(manifests)
    # A large number keeps its digits.
    assert given["GATEWAY_MAX_CONNECTIONS"] == "1000000"
    assert given["GATEWAY_COALESCE_SECONDS"] == "0.5"
    assert given["GATEWAY_COMPRESSION"] == "false"
    assert given["OTEL_SERVICE_NAME"] == "shop"
    assert container(manifests)["envFrom"] == [{"secretRef": {"name": "tracing"}}]
    assert given["GATEWAY_ENCRYPTION_KEYS"] == "@/run/secrets/gateway/encryption_keys"
    assert container(manifests)["image"] == "realtime-gateway@sha256:" + "0" * 64
    assert pod(manifests)["terminationGracePeriodSeconds"] == 5 + 10 + 30 + 15
    assert "replicas" not in of_kind("Deployment", manifests)["spec"]


def test_a_url_with_a_secret_is_in_a_file_of_the_webhooks(helm: str) -> None:
    given = ("webhooks.enabled=true", "settings.events=connected", "webhooks.urlSecret.name=hooks")
    manifests = rendered(
        helm, *(word for each in (*given, "webhooks.urlSecret.key=url") for word in ("--set", each))
    )
    check(manifests)
    hooks = [each for each in manifests if each["metadata"]["name"].endswith("-webhooks")]
    assert "--url=@/run/secrets/webhooks/url" in container(hooks)["args"]
    sources = pod(hooks)["volumes"][0]["projected"]["sources"]
    assert {"name": "hooks", "items": [{"key": "url", "path": "url"}]} in [
        each["secret"] for each in sources
    ]


def test_the_rules_are_the_alerts_of_the_deployment(helm: str) -> None:
    manifests = rendered(helm, "--set", "monitoring.prometheusRule=true")
    (alerts,) = documents((DEPLOY / "prometheus" / "alerts.yml").read_text())
    assert of_kind("PrometheusRule", manifests)["spec"] == alerts


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ("replica=3", "'replica' not allowed"),
        ("drain.seconds=-1", "/drain/seconds"),
        ("settings.max_conections=3", "'max_conections' not allowed"),
        ("settings.max_connections=many", "got string, want integer"),
        ("settings.port=80", "/settings/port': value must be 'set by the chart: service.port is"),
        ("settings.jwt_secret=abc", "name a Secret under secrets"),
        ("environment.GATEWAY_PORT=x", "must be 'a setting, whose place is under settings'"),
        ("environmentSecrets=a", "/environmentSecrets"),
        ("settings.coalesce_seconds=soon", "/settings/coalesce_seconds"),
    ],
)
def test_helm_says_what_is_wrong_with_the_values(helm: str, mistake: str, told: str) -> None:
    done = template(helm, "--set", mistake)
    assert done.returncode != 0
    assert told in done.stderr
