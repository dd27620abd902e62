"""Fuzzes one target along what its code does with a case: `python -m tests.fuzz.guided picture --seconds 600`.

Needs atheris, the dependency group `fuzz`, on an x86-64 with Linux. It pays where Python parses: headers of pictures,
model configurations, answers. What is found lies in .cache/fuzz, what led to new code in .cache/fuzz/corpus.
"""

from __future__ import annotations

import sys
from typing import Annotated

import atheris
import typer

with atheris.instrument_imports(include=["PIL", "google.protobuf", "models", "perception", "services", "yaml"]):
    from tests.fuzz.targets import PROJECT, TARGETS

FINDINGS = PROJECT / ".cache" / "fuzz"


def main(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(target.name for target in TARGETS)}.")],
    seconds: Annotated[int, typer.Option(help="How long.")] = 300,
) -> None:
    """Fuzz a target, led by the coverage of its code; the process ends at the first finding."""
    target = next((target for target in TARGETS if target.name == name), None)
    if target is None:
        raise typer.BadParameter(f"expected one of {', '.join(target.name for target in TARGETS)}, found {name}")
    corpus = FINDINGS / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)

    def run(data: bytes) -> None:
        try:
            target.run(data)
        except target.refusals:
            return

    limits = ["-rss_limit_mb=2048", "-timeout=60", f"-max_total_time={seconds}", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, f"-artifact_prefix={FINDINGS}/{name}-"], run)
    atheris.Fuzz()


if __name__ == "__main__":
    typer.run(main)
