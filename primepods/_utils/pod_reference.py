"""Types that refer to a pod."""

from __future__ import annotations


class PodReference:
    """Base of objects that refer to a pod by the attribute ``pod_id``."""

    __slots__ = ()


PodRef = str | PodReference
"""A pod's id, or an object that refers to the pod, such as a ``Pod``, a ``PodStatus`` or a leased pod."""
