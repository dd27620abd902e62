"""`python -m models.training`."""

from models.training.cli import app

app()
