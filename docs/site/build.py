# ruff: noqa: T201 - a program that says what it did
"""Makes a static site of the documentation: ``python -m docs.site.build`` (``make site``).

The pages are the Markdown files of ``docs/`` and of the folder above, read as CommonMark with tables, which is how GitHub reads them, and headings have
GitHub's anchors. Every link to a page, a heading, a picture or a file of the repository is checked, and nothing is loaded from another host. What is wrong is
printed, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import html
import json
import posixpath
import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Final
from urllib.parse import quote, unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from docs.site.checking import broken

ROOT: Final = Path(__file__).parents[2]
PARTS: Final = Path(__file__).parent
CHINESE: Final = ".zh-CN"
_INDEX: Final = "docs/README.md"
_WORDS: Final = {
    "en": {
        "home": "Realtime gateway",
        "search": "Search",
        "other": "简体中文",
        "pages": "Pages",
    },
    "zh-CN": {"home": "实时网关", "search": "搜索", "other": "English", "pages": "文档"},
}


@dataclass
class Page:
    """A Markdown file and what is made of it. ``path``: in the repository, with slashes."""

    path: str
    text: str
    title: str = ""
    body: str = ""
    headings: list[tuple[int, str, str]] = field(default_factory=list)
    """Level, anchor and text of each."""
    sections: list[list[str]] = field(default_factory=list)
    """Anchor, heading and text of each, for the search."""

    @property
    def url(self) -> str:
        return page_url(self.path)

    @property
    def language(self) -> str:
        return "zh-CN" if self.path.endswith(f"{CHINESE}.md") else "en"

    @property
    def other(self) -> str:
        """The path of the same page in the other language, whether or not it is there."""
        if self.language == "en":
            return self.path.removesuffix(".md") + f"{CHINESE}.md"
        return self.path.removesuffix(f"{CHINESE}.md") + ".md"


def page_url(path: str) -> str:
    """Where the page of a Markdown file is: beside it, and a README is the index of its folder."""
    folder, name = posixpath.split(path)
    return posixpath.join(folder, re.sub(r"^README\b", "index", name).removesuffix(".md") + ".html")


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def pages_of(root: Path) -> dict[str, Page]:
    """All pages by their paths: those that the index names first, in its order."""
    found = [path for folder in (root, root / "docs") for path in sorted(folder.glob("*.md"))]
    pages = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in found}
    links = re.findall(r"\]\(([^)#]+\.md)", pages.get(_INDEX, ""))
    order = [posixpath.normpath(posixpath.join("docs", link)) for link in links]
    first = ["README.md", _INDEX, *order]
    names = dict.fromkeys([name for name in first if name in pages] + sorted(pages))
    return {name: Page(name, pages[name]) for name in names}


class _Renderer:
    """Turns the pages into HTML, and notes what the search and the check need."""

    def __init__(self, root: Path, pages: dict[str, Page], repository: str) -> None:
        self._root = root
        self._pages = pages
        self._repository = repository.rstrip("/")
        self.pictures: set[str] = set()
        self.wrong: list[str] = []
        self._markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
        self._markdown.add_render_rule("fence", _fence)

    def render(self, page: Page) -> None:
        tokens = self._markdown.parse(page.text)
        names: Counter[str] = Counter()
        anchor, heading = "", ""
        for place, token in enumerate(tokens):
            inline = tokens[place + 1] if token.type == "heading_open" else None
            if inline is not None:
                heading = _plain(inline)
                name = slug(heading)
                anchor = f"{name}-{names[name]}" if names[name] else name
                names[name] += 1
                token.attrSet("id", anchor)
                page.headings.append((int(token.tag[1]), anchor, heading))
                page.title = page.title or heading
                page.sections.append([anchor, heading, ""])
            elif page.sections and token.type in ("inline", "fence", "code_block"):
                words = token.content if token.type != "inline" else _plain(token)
                page.sections[-1][2] += f" {words}" if words != heading else ""
            for child in token.children or []:
                self._point(page, child)
        page.body = self._markdown.renderer.render(tokens, self._markdown.options, {})

    def _point(self, page: Page, token: Token) -> None:
        """Let a link or a picture of the repository point to where it is in the site."""
        name = {"link_open": "href", "image": "src"}.get(token.type)
        target = str(token.attrGet(name) or "") if name else ""
        if not name or re.match(r"[a-z]+:|#|$", target):
            return
        path, _, anchor = target.partition("#")
        there = posixpath.normpath(posixpath.join(posixpath.dirname(page.path), unquote(path)))
        if not (self._root / there).exists():
            self.wrong.append(f"{page.path}: {target}: there is no such file")
        elif token.type == "image":
            self.pictures.add(there)
        elif there in self._pages:
            url = posixpath.relpath(page_url(there), posixpath.dirname(page.path) or ".")
            token.attrSet(name, quote(url) + (f"#{anchor}" if anchor else ""))
        elif self._repository:
            token.attrSet(name, f"{self._repository}/{quote(there)}")
        else:
            token.attrs = {"class": "file", "title": there}


def _plain(token: Token) -> str:
    """The text of an inline token, without its marks."""
    return "".join(
        each.content if each.type != "softbreak" else " "
        for each in token.children or []
        if each.type in ("text", "code_inline", "softbreak")
    )


def _fence(_: RendererHTML, tokens: list[Token], place: int, *__: Any) -> str:
    """A block of code, in colours where its language is known."""
    token = tokens[place]
    try:
        lexer = get_lexer_by_name(token.info.split()[0] if token.info.strip() else "text")
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    return str(highlight(token.content, lexer, HtmlFormatter(cssclass="code", wrapcode=True)))


def _navigation(page: Page, pages: dict[str, Page]) -> str:
    """The list of pages in the page's language, where there is one, with the headings of this one."""
    items = []
    for each in pages.values():
        if each.language != "en":
            continue
        shown = pages.get(each.other, each) if page.language != "en" else each
        url = posixpath.relpath(shown.url, posixpath.dirname(page.url) or ".")
        here = ' aria-current="page"' if shown is page else ""
        inner = ""
        if shown is page:
            parts = [
                f'<li><a href="#{anchor}">{html.escape(text)}</a></li>'
                for level, anchor, text in page.headings
                if level == 2
            ]
            inner = f"<ul>{''.join(parts)}</ul>" if parts else ""
        items.append(f'<li><a href="{quote(url)}"{here}>{html.escape(shown.title)}</a>{inner}</li>')
    return f"<ul>{''.join(items)}</ul>"


def _whole(page: Page, pages: dict[str, Page], template: Template) -> str:
    up = posixpath.relpath(".", posixpath.dirname(page.url) or ".")
    words = _WORDS[page.language]
    other = pages.get(page.other) or pages.get(
        "README.md" if page.language != "en" else f"README{CHINESE}.md"
    )
    switch = ""
    if other is not None:
        url = posixpath.relpath(other.url, posixpath.dirname(page.url) or ".")
        switch = f'<a href="{quote(url)}" lang="{other.language}" hreflang="{other.language}">{words["other"]}</a>'
    return template.substitute(
        language=page.language,
        title=html.escape(page.title),
        up=up,
        start=f"{up}/{'index.html' if page.language == 'en' else f'index{CHINESE}.html'}",
        switch=switch,
        home=words["home"],
        search=words["search"],
        pages=words["pages"],
        navigation=_navigation(page, pages),
        body=page.body,
    )


def _colours() -> str:
    light, dark = (
        HtmlFormatter(style=name, cssclass="code") for name in ("default", "github-dark")
    )
    return (
        f"{light.get_style_defs('.code')}\n"
        f"@media (prefers-color-scheme: dark) {{\n{dark.get_style_defs('.code')}\n}}\n"
    )


def build(root: Path, into: Path, repository: str = "") -> list[str]:
    """Make the site, and return what is wrong with the pages.

    Args:
        root: of the repository.
        into: the folder of the site; what was there is removed.
        repository: where people can read its files, for links to those that are no pages; without it such links are shown as names.
    """
    pages = pages_of(root)
    renderer = _Renderer(root, pages, repository)
    for page in pages.values():
        renderer.render(page)
    shutil.rmtree(into, ignore_errors=True)
    template = Template((PARTS / "page.html").read_text("utf-8"))
    for page in pages.values():
        file = into / page.url
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_whole(page, pages, template), "utf-8")
    for picture in renderer.pictures:
        (into / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / picture, into / picture)
    style = (PARTS / "style.css").read_text("utf-8")
    (into / "style.css").write_text(style + _colours(), "utf-8")
    shutil.copy(PARTS / "search.js", into)
    shutil.copy(ROOT / "gateway" / "web" / "static" / "icon.svg", into)
    entries = [[page.url, page.title, page.language, page.sections] for page in pages.values()]
    written = json.dumps(entries, ensure_ascii=False, separators=(",", ":"))
    (into / "entries.js").write_text(f"export default {written};\n", "utf-8")
    return renderer.wrong + broken(into)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m docs.site.build", description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "site")
    parser.add_argument("--repository", default="", help="where its files can be read")
    given = parser.parse_args()
    wrong = build(ROOT, given.into, given.repository)
    for each in wrong:
        print(each, file=sys.stderr)
    if wrong:
        return 1
    print(f"{len(list(given.into.rglob('*.html')))} pages in {given.into}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
