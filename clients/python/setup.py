"""Builds the package; everything declarative is in pyproject.toml. Stubs are generated first."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))


class BuildWithStubs(build_py):
    """Generates `perception.v1` where the protos are at hand (a checkout), then builds as usual."""

    def run(self) -> None:
        """Generate, then build."""
        from generate_stubs import PROTOS, generate

        if PROTOS.is_dir():
            generate()
        super().run()


setup(cmdclass={"build_py": BuildWithStubs})
