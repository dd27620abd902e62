"""Engines run a model. They differ in where it runs; the model contract is the same."""

from typing import assert_never

from services.runtime.engines.base import Engine, Inference, Model, Priority, ResizeRule, TensorSpec
from services.runtime.settings import TaskSettings

__all__ = ["Engine", "Inference", "Model", "Priority", "ResizeRule", "TensorSpec", "create_engine"]


def create_engine(settings: TaskSettings, model_name: str) -> Engine:
    """The engine that the settings name. Nothing is connected or loaded before its first call."""
    # Imported here, so that a service loads the engine that it uses and no other.
    match settings.engine:
        case "triton":
            from services.runtime.engines.triton import TritonEngine
            from services.runtime.shared_memory import SHARED_MEMORY

            return TritonEngine(
                settings.triton_url,
                model_name,
                settings.tls_as_caller,
                reloads=settings.reload_dead_model,
                shared_memory=SHARED_MEMORY if settings.triton_shared_memory else None,
            )
        case "onnxruntime":
            from services.runtime.engines.onnxruntime import OnnxRuntimeEngine

            return OnnxRuntimeEngine(settings.model_repository, model_name)
        case _:
            assert_never(settings.engine)
