"""`perception token create`, from the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.runtime.tokens import find, parse_tokens, read_tokens
from services.token_command import app


def create(*arguments: str) -> Any:
    # Wide, so that no message is broken into lines.
    return CliRunner().invoke(app, ["create", *arguments], env={"COLUMNS": "300"})


def test_a_token_is_printed_once_and_kept_hashed(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text("# of the yard\n- {name: old, sha256: " + "a" * 64 + ", scopes: [watch]}  # until spring\n")
    path.chmod(0o640)
    made = create(
        *f"--name gate --scope perceive --scope watch --expires 90d --rate 2.5 --burst 9 --file {path}".split()
    )
    assert made.exit_code == 0, made.stderr
    token = made.stdout.strip()
    entries = read_tokens(path)
    entry = find(token, entries)
    assert entry is not None
    assert [each.name for each in entries] == ["old", "gate"]
    assert (entry.name, entry.scopes, entry.rate, entry.burst) == ("gate", ("perceive", "watch"), 2.5, 9)
    assert entry.expires is not None
    assert abs(entry.expires - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)
    assert token not in path.read_text()
    assert token not in made.stderr
    assert path.read_text().startswith("# of the yard\n")
    assert "# until spring" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["tokens.yaml"]


def test_a_new_file_is_for_nobody_else_to_read_and_no_file_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    assert (
        create("--name", "gate", "--scope", "describe", "--expires", "2027-06-30", "--file", str(path)).exit_code == 0
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_tokens(path)[0].expires == datetime(2027, 6, 30, tzinfo=UTC)
    made = create("--name", "gate", "--scope", "describe")
    assert find(made.stdout.strip(), parse_tokens(made.stderr, Path("stderr"))) is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--name gate --scope fly", "Input should be 'perceive', 'watch', 'describe' or 'administer'"),
        ("--name a/b --scope watch", "1.name"),
        ("--name old --scope watch", "no two entries of one name, found old"),
        ("--name gate --scope watch --rate 0", "greater than 0"),
        ("--name gate --scope watch --expires soon", "expected a date or days such as 90d, found soon"),
    ],
)
def test_what_is_wrong_is_said_and_the_file_left_as_it_was(arguments: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    before = "- {name: old, sha256: " + "a" * 64 + ", scopes: [watch]}\n"
    path.write_text(before)
    made = create(*arguments.split(), "--file", str(path))
    assert (made.exit_code, made.stdout) == (2, "")
    assert words in made.stderr
    assert path.read_text() == before
