"""Dividing what is long, so that none of it holds everything else up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def chunks(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """``items`` in tuples of at most ``size`` (``itertools.batched`` of Python 3.12)."""
    rest = iter(items)
    while chunk := tuple(islice(rest, size)):
        yield chunk


def groups(items: Iterable[T], of: Callable[[T], K]) -> dict[K, list[T]]:
    """``items`` by what ``of`` says of each, in their order."""
    found: defaultdict[K, list[T]] = defaultdict(list)
    for each in items:
        found[of(each)].append(each)
    return dict(found)
