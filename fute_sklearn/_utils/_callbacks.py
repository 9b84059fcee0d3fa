"""Report the progress of fits to scikit-learn's callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ._compat import CallbackSupportMixin, callback_management_context

__all__ = [
    "CallbackSupportMixin",
    "callback_management_context",
    "fit_progress",
    "nested_progress",
]


@contextmanager
def _subtasks(context: Any, estimator: Any, name: str) -> Iterator[Callable[[], None]]:
    open_steps: list[Any] = []

    def step() -> None:
        if open_steps:
            open_steps.pop().call_on_fit_task_end(estimator=estimator)
        if (
            context.max_subtasks is None
            or len(context._children_map)  # noqa: SLF001 - as scikit-learn does
            < context.max_subtasks
        ):
            child = context.subcontext(task_name=name)
            open_steps.append(child.call_on_fit_task_begin(estimator=estimator))

    step()
    yield step
    if open_steps:
        open_steps.pop().call_on_fit_task_end(estimator=estimator)


@contextmanager
def fit_progress(
    estimator: Any, n_steps: int, name: str
) -> Iterator[Callable[[], None]]:
    """Open the callback context of a fit; yield a function to call after each step."""
    context = estimator._init_callback_context(  # noqa: SLF001 - as in fit methods
        max_subtasks=n_steps
    )
    context.call_on_fit_task_begin(estimator=estimator)
    if n_steps:
        with _subtasks(context, estimator, name) as step:
            yield step
    else:
        yield lambda: None
    context.call_on_fit_task_end(estimator=estimator)


@contextmanager
def nested_progress(
    estimator: Any, n_groups: int, name: str
) -> Iterator[Callable[[int], Any]]:
    """Open the callback context of a fit of groups; yield a context manager per group.

    The inner context manager takes the group's number of steps and yields a function
    to call after each of them.
    """
    context = estimator._init_callback_context(  # noqa: SLF001 - as in fit methods
        max_subtasks=n_groups
    )
    context.call_on_fit_task_begin(estimator=estimator)

    @contextmanager
    def group(n_steps: int) -> Iterator[Callable[[], None]]:
        child = context.subcontext(task_name=name, max_subtasks=n_steps)
        child.call_on_fit_task_begin(estimator=estimator)
        if n_steps:
            with _subtasks(child, estimator, "step") as step:
                yield step
        else:
            yield lambda: None
        child.call_on_fit_task_end(estimator=estimator)

    yield group
    context.call_on_fit_task_end(estimator=estimator)
