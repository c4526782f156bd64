"""The language of templates: text with `{fact}`, and `{?fact}…{/fact}` for what is said only where there is such a fact.

Pure, and nothing more than that: no loops, no formats, no look into what a fact is made of. A brace is written twice. What
a fact holds is text, and is not read as a template again.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import LiteralString

from libs.common.errors import Language

_TOKEN = re.compile(r"\{\{|\}\}|\{([?/]?)([a-z_]{1,40})\}|[{}]", re.ASCII)
NONE_GIVEN: dict[Language, str] = {"en": "none given", "zh": "未说明"}


class Faulty(Exception):
    """The text is no template. `reason` is a word that stays; `said` is what it is about."""

    def __init__(self, reason: LiteralString, said: str) -> None:
        super().__init__(reason, said)
        self.reason = reason
        self.said = said


@dataclass(frozen=True)
class Fact:
    name: str


@dataclass(frozen=True)
class Section:
    """What is said only where the fact is there."""

    name: str
    parts: tuple[str | Fact, ...]


Template = tuple["str | Fact | Section", ...]


@lru_cache(maxsize=1024)
def parse(text: str, *, known: frozenset[str] | None = None) -> Template:
    """Read a template that may name the known facts (None: any), or raise Faulty."""
    parts: list[str | Fact | Section] = []
    section: str | None = None
    inner: list[str | Fact] = []
    for mark, token in _tokens(text):
        if mark in ("", "?") and known is not None and token not in known:
            raise Faulty("unknown_fact", token)
        if mark == "?":
            if section is not None:
                raise Faulty("section_in_section", token)
            section, inner = token, []
        elif mark == "/":
            if section != token:
                raise Faulty("section_not_open", token)
            parts.append(Section(token, tuple(inner)))
            section = None
        else:
            piece = token if mark is None else Fact(token)
            (parts if section is None else inner).append(piece)
    if section is not None:
        raise Faulty("section_not_closed", section)
    return tuple(parts)


def _tokens(text: str) -> Iterator[tuple[str | None, str]]:
    """Yield (mark, name) of what stands in braces, and (None, text) of what does not."""
    end = 0
    for found in _TOKEN.finditer(text):
        if found.start() > end:
            yield None, text[end : found.start()]
        end = found.end()
        if found[0] in ("{{", "}}"):
            yield None, found[0][0]
        elif found[2] is None:
            raise Faulty("stray_brace", text[found.start() : found.start() + 20])
        else:
            yield found[1], found[2]
    if end < len(text):
        yield None, text[end:]


def names(text: str) -> frozenset[str]:
    """Return the facts that a template names."""
    return frozenset(name for mark, name in _tokens(text) if mark is not None)


def render(template: Template, facts: Mapping[str, str], language: Language) -> str:
    """Fill a template in; a fact that is missing and stands in no section of its own is said to be missing."""
    said = []
    for part in template:
        if isinstance(part, Section):
            said.append(render(part.parts, facts, language) if facts.get(part.name) else "")
        elif isinstance(part, Fact):
            said.append(facts.get(part.name) or NONE_GIVEN[language])
        else:
            said.append(part)
    return "".join(said)
