"""Rendering the chart as Helm does."""

from __future__ import annotations

import functools
import subprocess
from typing import Any

import pytest
import yaml

from deploy.helm import tools
from deploy.helm.chart_documents import CHART

Object = dict[str, Any]

NAMESPACE = "vision"
RELEASE = "perception"
KUBERNETES = tools.KUBERNETES_VERSIONS[-1]
PRESETS = {"default": (), "cpu": ("values-cpu.yaml",), "gpu": ("values-gpu.yaml",), "edge": ("values-edge.yaml",)}

needs_helm = pytest.mark.skipif(bool(tools.missing("helm")), reason=tools.missing("helm"))
needs_kubeconform = pytest.mark.skipif(
    bool(tools.missing("helm", "kubeconform")), reason=tools.missing("helm", "kubeconform")
)

AGENT = """
cameras:
  agents:
    yard:
      cameras:
        - {name: gate, source: "rtsp://user:secret@10.0.20.7/stream1", max_width: 1280}
        - {name: ramp, source: "rtsp://10.0.20.8/stream1", stream: {priority: high}}
networkPolicy:
  cameraSources: [{cidr: 10.0.20.0/24, ports: [554]}]
"""

CONTROLLER = (
    "networkPolicy: {gatewayClients: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: edge}}}]}"
)

SWITCHES = {
    "cameras": AGENT,
    "secret cameras": "cameras: {agents: {yard: {existingSecret: yard-cameras}, hall: {existingSecret: hall-cameras}}}",
    "keda": "autoscaling: {kind: keda, prometheus: {serverAddress: 'http://prometheus', triggerAuthentication: a}}",
    "hpa": "autoscaling: {kind: hpa, hpa: {ruleLabels: {release: prometheus}}}",
    "ingress": "ingress: {enabled: true, host: perception.example.org, tlsSecretName: perception-tls}\n" + CONTROLLER,
    "gateway api": "gatewayApi: {enabled: true, parentRefs: [{name: public, namespace: gateways}], hostnames: [a.b]}\n"
    + CONTROLLER,
    "monitoring": "monitoring: {podMonitor: {enabled: true}, rules: {enabled: true}, dashboards: {enabled: true}}",
    "claim": "modelRepository: {source: persistentVolumeClaim, persistentVolumeClaim: {claimName: m, subPath: demo}}",
    "bucket": """
modelRepository:
  source: objectStore
  objectStore:
    source: models:perception/demo
    environment: {RCLONE_CONFIG_MODELS_TYPE: s3, RCLONE_CONFIG_MODELS_ENV_AUTH: true}
    credentialsSecret: bucket
""",
    "traces": """
tracing:
  endpoint: http://collector.monitoring:4317
  tritonEndpoint: http://collector.monitoring:4318/v1/traces
  environmentSecret: collector-token
""",
    "tls": "tls: {enabled: true, secretName: perception-certificate}\n" + AGENT,
    "cert-manager": "tls: {enabled: true, mutual: false, certManager: {issuerRef: {name: perception, kind: Issuer}}}",
    "tls behind an ingress": """
tls: {enabled: true, secretName: perception-certificate, mutualAtGateway: false}
ingress: {enabled: true, host: perception.example.org, tlsSecretName: perception-outside}
"""
    + CONTROLLER,
    "tls behind a gateway": """
tls: {enabled: true, secretName: perception-certificate}
gatewayApi: {enabled: true, parentRefs: [{name: public, namespace: gateways}], caConfigMap: perception-ca}
"""
    + CONTROLLER,
    "tokens": "authentication: {enabled: true, tokensSecret: callers, callerTokenSecret: token}\n"
    "viewer: {tokenSecret: viewer-token}\n" + AGENT,
    "identity provider": """
authentication:
  enabled: true
  jwks: {url: "https://login.example.org/keys", issuer: "https://login.example.org", audience: perception}
  callerTokenSecret: token
""",
    "keys at hand": """
authentication:
  enabled: true
  tokensSecret: callers
  jwks: {configMap: provider-keys, issuer: "https://login.example.org", audience: perception}
  callerTokenSecret: token
""",
    "no policies": "networkPolicy: {enabled: false}",
    "clients": """
networkPolicy:
  gatewayClients: [{namespaceSelector: {matchLabels: {team: parking}}}]
  viewerClients: [{namespaceSelector: {}, podSelector: {matchLabels: {app: oauth2-proxy}}}]
""",
    "no viewer": "viewer: {enabled: false}",
    "one task": "tasks: {instanceSegmentation: {enabled: false}, semanticSegmentation: {enabled: false}, "
    "classification: {enabled: false}}",
    "mixed engines": "tasks: {classification: {engine: onnxruntime}}",
    "own models": "tasks: {detection: {model: yolo11s}}\ntriton: {pools: {default: {models: "
    "[yolo11s, instance_segmentation, semantic_segmentation, classification]}}}",
    "mig": "triton: {poolDefaults: {gpu: {resource: nvidia.com/mig-1g.10gb, "
    "products: [NVIDIA-A100-SXM4-80GB-MIG-1g.10gb]}, runtimeClassName: nvidia}}",
    "settings": "gateway: {settings: {MAX_IMAGE_PIXELS: 50000000, TASK_DEADLINE_SHARE: 0.75}, taxonomyConfigMap: own}\n"
    "viewer: {settings: {ALLOWED_ORIGINS: 'https://cameras.example.org'}}",
    "pods": """
pod:
  annotations: {sidecar.istio.io/inject: "false"}
  labels: {team: vision}
  nodeSelector: {kubernetes.io/os: linux}
  tolerations: [{key: dedicated, operator: Exists}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions:
    [{key: kubernetes.io/arch, operator: In, values: [amd64]}]}]}}}
  priorityClassName: high
gateway: {pod: {priorityClassName: highest}}
imagePullSecrets: [{name: registry}]
commonLabels: {cost-centre: "7"}
image: {digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}
topologySpread: {zone: DoNotSchedule, node: ""}
""",
    "extra objects": """
extraObjects:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: "{{ .Release.Name }}-extra"}, data: {a: b}}
  - |
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: text}
""",
}
"""Values beside the presets, one for each switch of the chart."""


def helm(*arguments: str, values: str = "") -> subprocess.CompletedProcess[str]:
    """Runs helm; `values` are given to it as a values file."""
    command = [str(tools.program("helm")), *arguments]
    if values:
        command += ["--values", "-"]
    return subprocess.run(command, input=values, capture_output=True, text=True, check=False)


def template(*arguments: str, values: str = "") -> subprocess.CompletedProcess[str]:
    """Runs `helm template` on the chart."""
    return helm(
        "template",
        RELEASE,
        str(CHART),
        "--namespace",
        NAMESPACE,
        "--kube-version",
        KUBERNETES,
        *arguments,
        values=values,
    )


@functools.cache
def manifest(preset: str = "default", values: str = "") -> str:
    """The chart rendered with a preset and further values."""
    files = [argument for name in PRESETS[preset] for argument in ("--values", str(CHART / name))]
    ran = template(*files, values=values)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@functools.cache
def _objects(preset: str, values: str) -> tuple[Object, ...]:
    return tuple(found for found in yaml.load_all(manifest(preset, values), yaml.CSafeLoader) if found)


def objects(kind: str = "", preset: str = "default", values: str = "") -> list[Object]:
    """The chart's objects, all or those of one kind."""
    return [found for found in _objects(preset, values) if kind in ("", found["kind"])]


def named(kind: str, name: str, preset: str = "default", values: str = "") -> Object:
    """The one object of a kind and name."""
    (found,) = (one for one in objects(kind, preset, values) if one["metadata"]["name"] == name)
    return found


def pod_spec(deployment: Object) -> Object:
    """What a Deployment's Pods are."""
    spec: Object = deployment["spec"]["template"]["spec"]
    return spec


def environment(deployment: Object) -> dict[str, str]:
    """The environment variables of a Deployment's one container."""
    (container,) = pod_spec(deployment)["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether a label selector chooses an object with these labels."""
    return selector.items() <= labels.items()
