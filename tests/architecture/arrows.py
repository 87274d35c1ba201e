"""The one-way rule of the house  as a table, and the imports of a tree held against it.

Every import counts: those inside functions, and those under ``TYPE_CHECKING`` too. A type that is only
named is still something that the reader must know, and the file that names it changes with it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Whom each part may know, beside itself. A file of `gateway` that is not in the table has no place yet.
_LAYERS: Final[dict[str, frozenset[str]]] = {
    name: frozenset(others.split())
    for name, others in {
        # The one tree of errors is the lowest of all: the contract raises them, and everybody may name them.
        "publisher.errors": "",
        "publisher.contract": "publisher.errors",
        "publisher.transport": "publisher.errors publisher.contract",
        "publisher": "publisher.errors publisher.contract publisher.transport",
        "gateway": "",
        "gateway.core": "publisher.errors publisher.contract",
        "gateway.node": "publisher.errors publisher.contract gateway.core",
        "gateway.backplane": "publisher.errors publisher.contract publisher.transport gateway.core "
        "gateway.node",
        "gateway.web": "publisher.errors publisher.contract gateway.core gateway.node",
        # A backend like any other: it uses what the publisher has for all.
        "gateway.api": "publisher publisher.errors publisher.contract gateway.core gateway.node gateway.web",
        "gateway.logs": "gateway.core",
        "gateway.audit_log": "gateway.logs gateway.node",
        "gateway.unknown_variables": "",
        "gateway.setting_checks": "publisher.errors publisher.contract gateway.core",
        "gateway.settings": "publisher.errors publisher.contract gateway.core gateway.unknown_variables "
        "gateway.setting_checks",
        "gateway.setting_doubts": "publisher.contract gateway.settings",
        "gateway.setting_examples": "gateway.settings",
        "gateway.options": "publisher.contract gateway.unknown_variables gateway.settings gateway.setting_examples",
        "gateway.metrics": "publisher.errors publisher.contract gateway.core gateway.node",
        "gateway.development": "publisher.contract gateway.settings gateway.web",
        "gateway.credentials": "publisher.errors publisher.contract publisher.transport gateway.node gateway.web "
        "gateway.settings",
        "gateway.tracing": "gateway.core gateway.node",
        "gateway.assembly": "publisher.errors publisher.contract publisher.transport gateway.core gateway.node "
        "gateway.backplane gateway.web gateway.api gateway.metrics gateway.tracing gateway.settings gateway.credentials publisher",
        "gateway.app": "publisher.errors publisher.contract gateway.core gateway.node gateway.backplane gateway.web gateway.settings "
        "gateway.assembly",
        "gateway.check": "publisher.errors publisher.contract publisher.transport gateway.node "
        "gateway.backplane gateway.web gateway.api gateway.audit_log gateway.settings gateway.setting_doubts gateway.options gateway.credentials "
        "gateway.redis_acl",
        "gateway.redis_acl": "publisher.errors publisher.contract publisher.transport",
        # A client, which knows of a gateway what the protocol says.
        "gateway.client": "",
        # A deployment and its backends, for other people's tests.
        "gateway.testing": "publisher gateway.check gateway.logs gateway.settings gateway.options gateway.app gateway.serve gateway.development",
        # Users and a backend, for whom a deployment is what both see of it from outside.
        "gateway.load_generator": "publisher gateway.client",
        # A client and a backend, who know of a deployment what the protocol's page says.
        "gateway.conformance": "publisher",
        # What an operator does to all nodes from outside.
        "gateway.operating": "publisher",
        # Arithmetic about a gateway, which knows no part of one.
        "gateway.planning": "",
        # A backend like any other, which uses what the library has for all.
        "gateway.webhooks": "publisher gateway.core",
        "gateway.serve": "publisher.errors gateway.web gateway.api gateway.logs gateway.audit_log gateway.settings gateway.app",
        "gateway.supervisor": "publisher.contract gateway.core gateway.web gateway.settings gateway.serve",
        # Each uses the parts that it is about; the publisher as any backend does.
        "gateway.commands": "publisher publisher.errors publisher.contract gateway.redis_acl gateway.logs gateway.settings "
        "gateway.setting_doubts gateway.options gateway.planning gateway.client gateway.load_generator gateway.conformance gateway.operating "
        "gateway.webhooks gateway.development gateway.app gateway.check gateway.serve gateway.supervisor gateway.service_manager",
        "gateway.cli": "publisher publisher.errors gateway.settings gateway.commands",
        "gateway.service_manager": "gateway.settings",
        "gateway.__main__": "gateway.cli",
    }.items()
}

# An allowance, since what touches the outside cannot all be named.
_CORE_MAY_IMPORT: Final = (
    "__future__ base64 bisect collections dataclasses enum functools hashlib heapq ipaddress itertools math operator "
    "orjson re string struct typing urllib.parse zlib"
)
_FORBIDDEN: Final = {
    "publisher.errors": "aiohttp asyncio hiredis random redis socket threading time",
    "publisher.contract": "aiohttp asyncio hiredis random redis socket threading time",
    "publisher.transport": "aiohttp random",
    "publisher": "aiohttp",
    "gateway.node": "aiohttp hiredis http random redis socket time",
    "gateway.backplane": "aiohttp",
    "gateway.web": "hiredis redis",
    "gateway.api": "hiredis redis",
    "gateway.unknown_variables": "aiohttp asyncio hiredis redis",
    "gateway.setting_checks": "aiohttp asyncio hiredis redis",
    "gateway.settings": "aiohttp asyncio hiredis redis",
    "gateway.setting_doubts": "aiohttp asyncio hiredis redis",
    "gateway.setting_examples": "aiohttp asyncio hiredis redis",
    "gateway.options": "aiohttp asyncio hiredis redis",
    "gateway.logs": "aiohttp asyncio hiredis redis",
    "gateway.audit_log": "aiohttp asyncio hiredis redis",
    "gateway.metrics": "aiohttp asyncio hiredis redis",
    "gateway.tracing": "aiohttp hiredis redis",
    "gateway.development": "aiohttp hiredis",
    "gateway.check": "aiohttp",
    "gateway.redis_acl": "aiohttp hiredis redis",
    "gateway.client": "aiohttp hiredis redis",
    "gateway.load_generator": "aiohttp hiredis redis",
    "gateway.testing": "aiohttp hiredis redis",
    "gateway.conformance": "hiredis redis",
    "gateway.operating": "aiohttp hiredis redis",
    "gateway.planning": "aiohttp asyncio hiredis random redis socket time",
    "gateway.serve": "aiohttp hiredis redis",
    "gateway.service_manager": "aiohttp hiredis redis",
    "gateway.supervisor": "aiohttp hiredis redis",
    "gateway.commands": "aiohttp hiredis redis",
    "gateway.cli": "aiohttp hiredis redis",
}
_CORE_MAY_NOT_CALL: Final = frozenset(
    {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"}
)


@dataclass(frozen=True)
class Import:
    """One module that a file names, and where."""

    file: str
    line: int
    module: str


def modules(root: Path) -> dict[str, Path]:
    """All modules of the two packages by name."""
    found = {}
    for package in ("gateway", "publisher"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, root: Path, known: dict[str, Path]) -> Iterator[Import]:
    """Everything a file imports, relative names resolved, as modules where they are modules."""
    here = path.relative_to(root)
    package = here.parent.parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(str(here), node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield Import(str(here), node.lineno, inner if inner in known else base)


def layer(module: str) -> str:
    """The part of the house that a module of ours belongs to."""
    package, _, rest = module.partition(".")
    part = rest.partition(".")[0]
    if package == "publisher":
        return f"publisher.{part}" if part in {"errors", "contract", "transport"} else "publisher"
    return f"{package}.{part}" if part else package


def broken_rules(root: Path) -> list[str]:
    """What is imported or called where it may not be; one line each."""
    known = modules(root)
    problems = []
    for module, path in known.items():
        home = layer(module)
        if home not in _LAYERS:
            problems.append(f"{path.relative_to(root)}: {home} has no place in the table")
            continue
        problems += [
            f"{each.file}:{each.line}: {home} {problem}"
            for each in imports(path, root, known)
            if (problem := _judge(home, each.module)) is not None
        ]
        if home == "gateway.core":
            problems += _calls(path, root)
    return problems


def circles(root: Path) -> list[str]:
    """Modules that import each other, directly or through others; one line for each group."""
    known = modules(root)
    graph = {
        module: {each.module for each in imports(path, root, known)} & known.keys() - {module}
        for module, path in known.items()
    }
    # What imports nothing that is left is in no circle; what remains at the end is.
    while free := {module for module, others in graph.items() if not others & graph.keys()}:
        graph = {module: others for module, others in graph.items() if module not in free}
    return [
        f"{module} -> {', '.join(sorted(graph[module] & graph.keys()))}" for module in sorted(graph)
    ]


def _judge(home: str, imported: str) -> str | None:
    top = imported.partition(".")[0]
    if top in ("gateway", "publisher"):
        there = layer(imported)
        if there == home or there in _LAYERS[home]:
            return None
        return f"imports {imported}"
    if home == "gateway.core":
        pure = {top, imported} & {*_CORE_MAY_IMPORT.split()}
        return None if pure else f"imports {imported}, which is not pure"
    return f"imports {imported}" if top in _FORBIDDEN.get(home, "").split() else None


def _calls(path: Path, root: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Name) and node.id in _CORE_MAY_NOT_CALL:
            yield f"{path.relative_to(root)}:{node.lineno}: gateway.core uses {node.id}"
