"""Files of environment variables, as Docker reads them: NAME=value lines, in which the value is the rest of the line."""

from collections.abc import Mapping
from pathlib import Path

from deploy.names import Refusal

Variables = dict[str, str]


def parse(text: str) -> Variables:
    """Return the variables of such a text; empty lines and those that begin with # say nothing."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def render(variables: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def read(path: Path) -> Variables:
    """Read such a file, or raise Refusal."""
    try:
        return parse(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path} can't be read as a file of settings: {error}") from None
