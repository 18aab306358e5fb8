"""What the documentation names exists, and what exists is documented."""

import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from infra.command_line.main import VERBS, build_parser
from infra.composition.settings import Settings, variable_name
from infra.formats.codec import EVENT_CLASSES

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
OPERATING = ROOT / "docs" / "operating.md"
SETTINGS = ROOT / "docs" / "settings.md"
CHANGELOG = ROOT / "CHANGELOG.md"
DOCUMENTS = [README, CHANGELOG, *sorted((ROOT / "docs").glob("*.md"))]
DECISIONS = sorted((ROOT / "ADR").glob("*.md"))
LINES_A_PAGE_MAX = 60
HEADINGS = ("## Context", "## Decision", "## Consequences")
# Words that name a machine instead of the product.
MACHINE_PATHS = re.compile(r"(?<![\w./])/(?:work|root/\.|Users|home/(?!you\b)\w+)/")


def tracked() -> list[Path]:
    """The files of the repository, or all there are where git does not tell."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("document", [*DOCUMENTS, *DECISIONS], ids=lambda path: path.name)
def test_links_in_the_documentation_lead_to_files_that_exist(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", document.read_text())
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []


def test_each_verb_is_documented_and_each_documented_verb_exists() -> None:
    documented = set(re.findall(r"plaza ([a-z-]+)", OPERATING.read_text()))
    documented |= set(re.findall(r"· `([a-z-]+)(?: \[[^`]*)?`", OPERATING.read_text()))
    assert set(VERBS) <= documented


def test_the_plaza_commands_of_the_readme_are_ones_that_plaza_understands() -> None:
    commands = [line for line in shown_commands() if line.startswith("plaza ")]
    assert len(commands) >= 4
    for command in commands:
        words = re.split(r" [|<>]", command)[0].split()[1:]
        build_parser(words).parse_args(words)


def test_the_make_targets_of_the_readme_exist() -> None:
    text = README.read_text()
    named = set(re.findall(r"(?:^\$ |`)make ([a-z-]+)", text, re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"up", "test"} <= named <= targets


def test_the_first_screen_of_the_readme_shows_how_to_run_and_test() -> None:
    first_screen = README.read_text().splitlines()[:20]
    assert "$ make up" in first_screen
    assert "$ make test" in first_screen


def test_each_setting_is_documented_with_its_default() -> None:
    rows = dict(
        re.findall(r"^\| `(PLAZA_[A-Z_]+)` \| (\S+) \|", SETTINGS.read_text(), re.MULTILINE)
    )
    expected = {
        variable_name(field.name): "–" if field.default == "" else f"`{field.default}`"  # noqa: RUF001
        for field in msgspec.structs.fields(Settings)
    }
    assert rows == expected


@pytest.mark.parametrize("document", [*DOCUMENTS, *DECISIONS], ids=lambda path: path.name)
def test_settings_that_are_named_exist(document: Path) -> None:
    known = {variable_name(field.name) for field in msgspec.structs.fields(Settings)}
    named = set(re.findall(r"PLAZA_[A-Z_]*[A-Z]", document.read_text()))
    unknown = {
        name for name in named - known if not name.startswith(("PLAZA_REQUIRE_FULL", "PLAZA_FAULT"))
    }
    # `PLAZA_ADYEN_…` and the like stand for all that begin so.
    assert {name for name in unknown if not any(one.startswith(name) for one in known)} == set()


def test_each_event_type_has_its_line_in_the_changelog() -> None:
    text = CHANGELOG.read_text()
    assert [tag for tag in sorted(EVENT_CLASSES) if f"`{tag}`" not in text] == []


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.name)
def test_a_decision_is_a_page_with_a_status_a_context_and_consequences(decision: Path) -> None:
    text = decision.read_text()
    assert re.match(r"# .+\n\nStatus: \w+", text), "a title, and then the status"
    # For a list of dependencies, its columns are context and decision.
    wanted = ["## Consequences"] if "dependencies" in text else HEADINGS
    assert [heading for heading in wanted if heading not in text] == []
    assert len(text.splitlines()) <= LINES_A_PAGE_MAX


def test_numbers_of_decisions_are_given_once() -> None:
    numbers = [path.name[:4] for path in DECISIONS]
    assert sorted(set(numbers)) == numbers


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".sql", ".lua", ".xml", ""}
        and (match := MACHINE_PATHS.search(path.read_text(errors="replace")))
    ]
    assert found == []


def shown_commands() -> list[str]:
    """What the README tells its reader to type."""
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
