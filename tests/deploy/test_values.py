"""Values: every one is documented, wrong ones are refused with words that help, settings are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deploy.helm import chart_documents
from deploy.helm.chart_documents import CHART
from services.gateway.settings import GatewaySettings
from services.runtime.settings import TaskSettings
from services.viewer.settings import ViewerSettings
from tests.deploy import chart
from tests.deploy.chart import needs_helm


def test_readme_and_schema_are_up_to_date() -> None:
    for path, content in chart_documents.documents().items():
        assert path.read_text(encoding="utf-8") == content, f"{path}: run python -m deploy.helm.chart_documents"


def test_every_value_has_a_comment() -> None:
    paths = [value.path for value in chart_documents.values()]
    assert len(paths) == len(set(paths))
    assert {"gateway.replicas", "triton.poolDefaults.gpu.resource", "cameras.agents", "extraObjects"} <= set(paths)


def test_a_value_without_a_comment_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("# Says something.\na: 1\nb: 2\n")
    monkeypatch.setattr(chart_documents, "CHART", tmp_path)
    with pytest.raises(ValueError, match=r"line 3: expected a comment above b"):
        list(chart_documents.values())


@pytest.mark.parametrize(
    ("definition", "kind"),
    [("gatewaySettings", GatewaySettings), ("taskSettings", TaskSettings), ("viewerSettings", ViewerSettings)],
)
def test_settings_that_the_chart_does_not_give_itself_can_be_given(definition: str, kind: type) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    given = set(schema["definitions"][definition]["properties"])
    of_the_chart = {name.upper() for name in chart_documents.OF_THE_CHART}
    assert given | of_the_chart >= {name.upper() for name in kind.model_fields}
    assert not given & of_the_chart


def test_the_schema_knows_every_value() -> None:
    def closed(schema: dict[str, object], path: str) -> None:
        if "properties" in schema and "if" not in path:
            assert schema.get("additionalProperties") is False, path
        for key, child in schema.items():
            if isinstance(child, dict) and key not in ("if", "then", "allOf"):
                closed(child, f"{path}.{key}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["additionalProperties"] is False
    for name, definition in schema["definitions"].items():
        closed(definition, name)
    for name, definition in schema["properties"].items():
        closed({key: value for key, value in definition.items() if key != "allOf"}, name)


@needs_helm
def test_the_readmes_examples_render() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", chart_documents.INTRODUCTION.read_text(encoding="utf-8"), re.DOTALL)
    examples = [block for block in blocks if "of the adapter" not in block]
    assert len(examples) == 6
    for example in examples:
        ran = chart.template(values=example)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout != chart.manifest()


_REFUSED = [
    # Misspelt, and of the wrong kind.
    ("gatway: {replicas: 3}", ("gatway",)),
    ("gateway: {replica: 3}", ("/gateway", "replica")),
    ('gateway: {replicas: "3"}', ("/gateway/replicas", "want integer")),
    ("gateway: null", ("gateway",)),
    ("taskDefaults: {engine: tensorrt}", ("/taskDefaults", "engine", "'triton', 'onnxruntime'")),
    ("tasks: {segmentation: {}}", ("/tasks", "segmentation")),
    # Settings, as the code declares them.
    ("gateway: {settings: {MAX_STREAM: 3}}", ("/gateway/settings", "MAX_STREAM")),
    ("gateway: {settings: {MAX_STREAMS: 0}}", ("/gateway/settings/MAX_STREAMS", "minimum")),
    ("gateway: {settings: {TASK_DEADLINE_SHARE: 1}}", ("/gateway/settings/TASK_DEADLINE_SHARE",)),
    ("gateway: {settings: {PORT: 1}}", ("/gateway/settings", "PORT")),
    # Triton's pools.
    ("triton: {pools: {default: {models: [detection]}}}", ("no pool loads the model", "found pools default")),
    ("triton: {pools: {b: {models: [detection]}}}", ("the model detection is in pools b, default", "models: []")),
    ("triton: {pools: {default: {gpu: {resource: nvidia/gpu}}}}", ("gpu/resource", "pattern")),
    ("triton: {pools: {default: {rollingUpdate: {maxSurge: 0}}}}", ("rollingUpdate", "above 0", "found both 0")),
    (
        "triton: {pools: {default: {gpu: {products: [NVIDIA-L4]}, pod: {affinity: {nodeAffinity: {a: b}}}}}}",
        ("triton.pools.default: gpu.products and pod.affinity.nodeAffinity",),
    ),
    # What belongs together.
    ("modelRepository: {source: persistentVolumeClaim}", ("persistentVolumeClaim/claimName",)),
    ("modelRepository: {source: objectStore}", ("objectStore/source",)),
    ("modelRepository: {source: bucket}", ("/modelRepository/source", "'objectStore'")),
    ("autoscaling: {kind: keda}", ("/autoscaling/prometheus/serverAddress",)),
    ("gateway: {autoscaling: {minReplicas: 20}}", ("gateway autoscaling", "up to maxReplicas, 16, found 20")),
    ("ingress: {enabled: true}", ("/ingress/host",)),
    ("ingress: {enabled: true, host: a.org, tlsSecretName: t}", ("networkPolicy.gatewayClients", "ingress-nginx")),
    ("gatewayApi: {enabled: true}", ("/gatewayApi/parentRefs",)),
    (
        "tasks: {detection: {enabled: false}, instanceSegmentation: {enabled: false}, "
        "semanticSegmentation: {enabled: false}, classification: {enabled: false}}",
        ("tasks: expected at least one",),
    ),
    ("image: {digest: sha256:12}", ("/image/digest",)),
    ("podDisruptionBudget: {maxUnavailable: half}", ("/podDisruptionBudget/maxUnavailable",)),
    ("networkPolicy: {gatewayClients: [{}]}", ("/networkPolicy/gatewayClients/0",)),
    # Cameras.
    ("cameras: {agents: {yard: {}}}", ("cameras.agents.yard: expected cameras or existingSecret, found neither",)),
    (
        "cameras: {agents: {yard: {existingSecret: a, cameras: [{name: g, source: a.mp4}]}}}",
        ("cameras.agents.yard", "found both"),
    ),
    (
        "cameras: {agents: {yard: {cameras: [{name: gate, source: 'rtsp://10.0.0.7/1'}]}}}",
        ("networkPolicy.cameraSources", "camera gate of agent yard"),
    ),
    (
        "cameras: {agents: {yard: {cameras: [{name: g, source: a.mp4}, {name: g, source: b.mp4}]}}}",
        ("no two cameras of one name, found g",),
    ),
    (
        "cameras: {agents: {yard: {cameras: [{name: g, source: a.mp4, fps: 3}]}}}",
        ("/cameras/agents/yard/cameras/0", "fps"),
    ),
    ("cameras: {agents: {Yard: {existingSecret: a}}}", ("/cameras/agents", "Yard")),
]


@needs_helm
@pytest.mark.parametrize(("values", "words"), _REFUSED, ids=[values for values, _ in _REFUSED])
def test_wrong_values_are_refused_with_words_that_help(values: str, words: tuple[str, ...]) -> None:
    ran = chart.template(values=values)
    assert ran.returncode != 0
    for word in words:
        assert word in ran.stderr, ran.stderr
    assert "nil pointer" not in ran.stderr


@needs_helm
def test_long_names_do_not_grow_too_long() -> None:
    name = "the-parking-lots-of-the-northern-region"
    ran = chart.helm("template", name, str(CHART), "--kube-version", chart.KUBERNETES)
    deployments = [line.split()[-1] for line in ran.stdout.splitlines() if line.startswith("  name: the-")]
    # A Pod's name is the Deployment's and two hashes, of 10 and 5; Kubernetes cuts what comes before the second at 58.
    assert max(map(len, deployments)) <= 58 - 12
