"""Waiting for pods and watching them."""

from .conditions import Until, failed, gone, ready, settled
from .subscription import APPEAR_GRACE
from .wait import OnChange
from .watch import AsyncWatch

__all__ = ["APPEAR_GRACE", "AsyncWatch", "OnChange", "Until", "failed", "gone", "ready", "settled"]
