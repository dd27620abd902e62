"""`python -m models`: the model commands without the rest of the project."""

from models.cli import app

app(prog_name="python -m models")
