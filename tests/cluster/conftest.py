"""The cluster that all tests here share, and a table of what they showed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.table import Table

from tests.cluster import nodes, programs
from tests.cluster.control_plane import ControlPlane
from tests.cluster.release import Release

_SHOWN = pytest.StashKey[list[tuple[str, str, float]]]()
_console = Console(stderr=True, width=150, soft_wrap=False)


def tell(line: str) -> None:
    """Says what goes on; pytest shows it with `--capture=no`."""
    _console.print(f"  {line}", style="dim", highlight=False)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane without nodes, with the CustomResourceDefinitions that the chart may need."""
    if programs.missing():
        pytest.skip(programs.missing())
    began = time.monotonic()
    with ControlPlane(tmp_path_factory.mktemp("cluster"), tell) as running:
        tell("creating the definitions of custom resources")
        # Created, not applied: a copy of each would not fit into the annotation that `apply` keeps.
        running.kubectl("create", "-f", str(programs.custom_resources()))
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        tell(f"the control plane runs after {time.monotonic() - began:.0f} s")
        yield running


@pytest.fixture(scope="module")
def clean_cluster(cluster: ControlPlane) -> Iterator[ControlPlane]:
    """The cluster, without the nodes of other modules, and rid of this one's at the end."""
    yield cluster
    nodes.take_down(cluster)


@pytest.fixture
def trial(cluster: ControlPlane) -> Iterator[Release]:
    """A release of one test's own that is not installed yet; it and all nodes go afterwards."""
    release = Release(cluster, "trial")
    yield release
    release.remove()
    nodes.take_down(cluster)


class Shown:
    """What one test showed, in words, for the table at the end."""

    def __init__(self, config: pytest.Config, name: str) -> None:
        self._shown, self._name = config.stash.setdefault(_SHOWN, []), name
        self._began = time.monotonic()

    def __call__(self, words: str) -> None:
        tell(words)
        self._shown.append((self._name, words, time.monotonic() - self._began))


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Shown:
    name = request.node.name.removeprefix("test_").replace("_", " ").replace("[", " (").replace("]", ")")
    return Shown(request.config, name)


def pytest_terminal_summary(config: pytest.Config) -> None:
    """Prints the table of what was shown."""
    table = Table("what", "shown", "after", title="The chart on a real control plane", show_lines=True)
    for name, words, seconds in config.stash.get(_SHOWN, []):
        table.add_row(name, words, f"{seconds:.1f} s")
    if table.row_count:
        _console.print(table)
