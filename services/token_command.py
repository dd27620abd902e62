"""`perception token`: API tokens for those who call the gateway."""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape

from services.runtime.tokens import digest, new_token, parse_tokens

app = typer.Typer(help="API tokens for those who call the gateway.", no_args_is_help=True)
errors = Console(stderr=True, emoji=False)


@app.callback()
def _tokens() -> None:
    """Makes `create` a command of its own, where there is no other."""


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Whose it is: 1 to 64 letters, digits, '.', '_' or '-'.")],
    scope: Annotated[list[str], typer.Option(help="perceive, watch, describe or administer; may be given again.")],
    expires: Annotated[str, typer.Option(help="A date such as 2027-06-30 (UTC), or days from now such as 90d.")] = "",
    rate: Annotated[float | None, typer.Option(help="Calls a second.")] = None,
    burst: Annotated[int | None, typer.Option(help="Calls at once after a pause; a second's where not given.")] = None,
    streams: Annotated[int | None, typer.Option(help="Camera streams at once.")] = None,
    file: Annotated[Path | None, typer.Option(help="Add the entry to this AUTHENTICATION_TOKENS_FILE.")] = None,
) -> None:
    """Make a token. It is printed once, on standard output; its entry, which holds only a hash, goes to FILE.

    Without FILE the entry is printed on standard error. A running gateway reads a changed file within seconds.
    """
    token = new_token()
    entry: dict[str, Any] = {"name": name, "sha256": digest(token), "scopes": scope}
    if expires:
        entry["expires"] = _moment(expires)
    entry |= {
        key: value for key, value in (("rate", rate), ("burst", burst), ("streams", streams)) if value is not None
    }
    text = yaml.safe_dump([entry], sort_keys=False)
    try:
        if file is None:
            parse_tokens(text, Path("this token"))
            typer.echo(text, nl=False, err=True)
        else:
            _add(text, file)
            errors.print(f"added {escape(name)} to {escape(str(file))}", soft_wrap=True)
    except (OSError, ValueError) as error:
        errors.print(f"[red]{escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from None
    typer.echo(token)


def _moment(text: str) -> datetime:
    if days := re.fullmatch(r"(\d{1,5})d", text):
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=int(days[1]))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"expected a date or days such as 90d, found {text}", param_hint="--expires") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _add(entry: str, path: Path) -> None:
    """Adds an entry to the end of a file, comments and all else left as they are; whole, or not at all."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    after = f"{before.rstrip()}\n{entry}".lstrip()
    parse_tokens(after, path)
    new = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.")) / path.name
    try:
        new.write_text(after, encoding="utf-8")
        new.chmod(path.stat().st_mode if path.exists() else 0o600)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
        new.parent.rmdir()
