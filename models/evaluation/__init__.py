"""Measures a running system, or single models in their engines, against data with known truth, and judges the result.

Everything is asked over gRPC with the client package, so what is measured is what callers get.
"""
