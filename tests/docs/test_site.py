"""The static site: every page is in it, every link leads somewhere, and it is found out where one does not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from docs.site.build import build

ROOT = Path(__file__).parents[2]


def test_the_site_of_this_repository_has_every_page_and_no_broken_link(tmp_path: Path) -> None:
    assert build(ROOT, tmp_path) == []
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    sources = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    assert len(made) == len(sources)
    assert {"index.html", "docs/index.html", "docs/protocol.html"} <= made
    page = (tmp_path / "docs" / "publisher.html").read_text("utf-8")
    assert '<a href="deployment.html#sentinel">' in page
    # Each page of the same language is one click away.
    assert {"index.html", "deployment.html"} <= set(re.findall(r'<li><a href="([^"#]+)"', page))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "docs").mkdir(parents=True)
    (root / "README.md").write_text("# Start\n\n[more](docs/more.md#a-b)\n\n![p](docs/p.svg)\n")
    (root / "docs" / "README.md").write_text("# All\n\n[more](more.md)\n")
    (root / "docs" / "more.md").write_text("# More\n\n## A, b\n\n[code](../LICENSE)\n")
    (root / "docs" / "p.svg").write_text("<svg/>")
    (root / "LICENSE").write_text("MIT")
    return root


def test_a_small_site(repository: Path, tmp_path: Path) -> None:
    into = tmp_path / "site"
    assert build(repository, into, "https://example.com/tree/main/") == []
    assert 'href="https://example.com/tree/main/LICENSE"' in (into / "docs/more.html").read_text()
    assert (into / "docs" / "p.svg").exists()
    assert build(repository, into) == []
    assert 'href="https://example.com' not in (into / "docs/more.html").read_text()


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        ("[x](docs/gone.md)", "README.md: docs/gone.md: there is no such file"),
        ("[x](docs/more.md#gone)", "index.html: docs/more.html#gone: there is no such heading"),
        ("[x](#gone)", "index.html: #gone: there is no such heading"),
        ("![x](docs/gone.svg)", "README.md: docs/gone.svg: there is no such file"),
        ("![x](https://example.com/x.png)", "https://example.com/x.png is loaded"),
        ('<script src="https://example.com/x.js"></script>', "https://example.com/x.js is loaded"),
        ('<a id="start"></a>', "index.html: two things have the id start"),
    ],
)
def test_a_mistake_is_found(repository: Path, tmp_path: Path, mistake: str, told: str) -> None:
    readme = repository / "README.md"
    readme.write_text(f"{readme.read_text()}\n{mistake}\n")
    assert any(told in each for each in build(repository, tmp_path / "site"))


def test_what_was_there_before_is_gone(repository: Path, tmp_path: Path) -> None:
    into = tmp_path / "site"
    build(repository, into)
    shutil.move(repository / "docs" / "more.md", repository / "docs" / "other.md")
    build(repository, into)
    assert not (into / "docs" / "more.html").exists()
