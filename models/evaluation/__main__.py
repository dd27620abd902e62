"""`python -m models.evaluation`."""

import typer

from models.evaluation.command import evaluate

typer.run(evaluate)
