"""What the documents name exists, and what exists for operators is named in them."""

import re
from pathlib import Path

import pytest

from deploy import registry
from deploy.cli import main
from deploy.embedded import Place

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("service", registry.every(), ids=lambda service: service.name)
def test_every_setting_is_described_with_its_default(service: object) -> None:
    rows = dict(re.findall(r"^\| (`[A-Z_`, ]+`) \| (.+?) \|", OPERATIONS, flags=re.MULTILINE))
    described = {name: default for names, default in rows.items() for name in re.findall(r"[A-Z_]+", names)}

    fields = service.settings.model_fields  # type: ignore[attr-defined]
    assert {name.upper() for name in fields} <= set(described)
    for name, field in fields.items():
        if isinstance(field.default, int) and not isinstance(field.default, bool):
            assert described[name.upper()] == str(field.default), name
        if isinstance(field.default, str) and field.default:
            assert described[name.upper()].strip("`") == field.default, name


def test_the_variables_of_the_embedded_run_are_described_with_their_defaults() -> None:
    described = dict(re.findall(r"^\| `HALLPASS_([A-Z_]+)` \| (.+?) \|", OPERATIONS, flags=re.MULTILINE))
    place = Place.from_environment({})

    assert described == {
        "PORT": str(place.port),
        "HOST": place.host,
        "DATA": f"`{place.data.relative_to(ROOT)}`",
        "DEMO": "yes" if place.demo else "no",
        "TRUSTED_PROXIES": place.trusted_proxies or "nobody",
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_file_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))

    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE)) <= targets
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / link).exists(), link
    for path in re.findall(r"`((?:libs|services|deploy|docs|tests|bench)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_every_command_for_operators_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = set(re.findall(r"^    ([a-z-]+) ", capsys.readouterr().out, flags=re.MULTILINE))

    assert set(
        re.findall(r"^\| `(task|republish|dead-letters|migrate|unlock|rescue)[ `]", OPERATIONS, flags=re.MULTILINE)
    ) == {
        "task",
        "republish",
        "dead-letters",
        "migrate",
        "unlock",
        "rescue",
    }
    assert {"task", "republish", "dead-letters", "migrate", "unlock", "rescue"} <= commands
