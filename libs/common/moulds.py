"""Moulds: JSON of which all but a few values is known ahead. Filling these in takes a tenth of rendering the whole."""

import re
import secrets
from typing import Any

from pydantic_core import to_json


class Hole:
    """Stands in content for a value that is not known yet."""

    def __init__(self, name: str) -> None:
        self.name = name


class Mould:
    """JSON made of content in which there may be a Hole wherever a value may be."""

    def __init__(self, content: Any) -> None:
        mark = secrets.token_hex(16)  # nothing that people wrote looks like it
        text = to_json(content, fallback=lambda hole: f"{mark}{hole.name}").decode().replace("%", "%%")
        self._names: list[str] = re.findall(rf'"{mark}(\w+)"', text)
        self._text = re.sub(rf'"{mark}\w+"', "%b", text).encode()

    def filled(self, **values: bytes) -> bytes:
        """Return the JSON with these values, which are JSON themselves; KeyError where one is missing."""
        return self._text % tuple([values[name] for name in self._names])
