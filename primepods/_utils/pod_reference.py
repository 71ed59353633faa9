"""Types that refer to a pod."""

from __future__ import annotations


class PodReference:
    """Base of objects that refer to one pod by ``pod_id``, which is a field or a property."""

    __slots__ = ()


PodRef = str | PodReference
"""A pod's id, or an object that refers to the pod, such as a ``Pod``, a ``PodStatus`` or a leased pod."""
