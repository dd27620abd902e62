"""How often limits are breached."""

from __future__ import annotations

from services.runtime import metrics
from services.runtime.errors import ServiceError


def count_breach(error: BaseException | None) -> None:
    """Counts an error that a caller is answered with, where it is the breach of a limit."""
    if isinstance(error, ServiceError) and error.setting:
        metrics.LIMIT_BREACHES.labels(error.setting).inc()
