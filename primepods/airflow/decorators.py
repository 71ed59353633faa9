"""The decorator ``@task.prime_pod``, for functions that return the command for a pod of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import (
    Context,
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from ._run_operator import PrimeRunPodOperator


class _PrimePodDecoratedOperator(DecoratedOperator, PrimeRunPodOperator):
    """Operator that calls a function, and runs the command that it returns."""

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *PrimeRunPodOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **PrimeRunPodOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.prime_pod"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs["multiple_outputs"] = True  # of the operator, whatever the function returns
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, command="", **kwargs
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Call the function, and run its command."""
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        self.command = self.python_callable(*self.op_args, **kwargs)
        return PrimeRunPodOperator.execute(self, context)


def prime_pod_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Return a task that runs the command which the function returns; see :class:`PrimeRunPodOperator`.

    Args:
        python_callable: The function. It runs in the worker, in each try.
        kwargs: The operator's arguments, except ``command``.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_PrimePodDecoratedOperator, **kwargs
    )
