"""What is accepted where a pod's id is meant."""

from __future__ import annotations


class PodReference:
    """A base of what stands for one pod. Each has a ``pod_id``, a field here and a property there."""

    __slots__ = ()


PodRef = str | PodReference
"""A pod's id, or what stands for the pod: a ``Pod``, a ``PodStatus``, a leased pod."""
