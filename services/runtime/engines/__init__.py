"""Engines run a model. They differ in where it runs; the model contract is the same."""

from services.runtime.engines.base import Engine, Inference, Model, ResizeRule, TensorSpec

__all__ = ["Engine", "Inference", "Model", "ResizeRule", "TensorSpec"]
