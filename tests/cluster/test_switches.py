"""Every switch of the chart, as the API server sees it: with its defaults, its validation and its Pod Security."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Shown
from tests.cluster.control_plane import ControlPlane
from tests.deploy import chart
from tests.deploy.chart import AGENT, NAMESPACE, PRESETS, SWITCHES

pytestmark = pytest.mark.timeout(300)

_MATRIX = [*((preset, AGENT) for preset in PRESETS), *(("default", values) for values in SWITCHES.values())]


@pytest.fixture
def namespace(cluster: ControlPlane) -> Iterator[str]:
    """The namespace for which the chart's tests render it, under restricted Pod Security."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl(
        "label",
        "namespace",
        NAMESPACE,
        *(f"pod-security.kubernetes.io/{one}=restricted" for one in ("enforce", "warn")),
    )
    yield NAMESPACE
    cluster.kubectl("delete", "namespace", NAMESPACE)


def test_the_api_server_takes_every_switch(cluster: ControlPlane, namespace: str, shown: Shown) -> None:
    count = 0
    for preset, values in _MATRIX:
        ran = cluster.try_kubectl(
            "create",
            "--dry-run=server",
            "--validate=strict",
            "--namespace",
            namespace,
            "-f",
            "-",
            "-o",
            "name",
            given=chart.manifest(preset, values),
        )
        assert ran.returncode == 0, f"{preset} {values}: {ran.stderr}"
        # It warns of Pods that Pod Security would refuse, of what is deprecated, and of fields that it does not know.
        assert not ran.stderr, f"{preset} {values}: {ran.stderr}"
        count += len(ran.stdout.splitlines())
    shown(f"{count} objects of {len(_MATRIX)} presets and switches taken by a server-side dry run, without a warning")
