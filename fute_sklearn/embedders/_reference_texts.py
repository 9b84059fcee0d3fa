"""Reference texts, on which embeddings are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from .._utils._store import text_key
from ..tasks._task import Task
from ..tasks._validation import check_texts


class ReferenceTexts(tuple[str, ...]):
    """Texts that were checked and sorted; copies of an embedder share them.

    An embedder's ``reference`` is of this class if ``learn_space`` has set it.
    """

    __slots__ = ()

    @classmethod
    def of(cls, texts: Any) -> ReferenceTexts:
        """Check and sort texts; those that were are passed on."""
        if isinstance(texts, cls):
            return texts
        return cls(sorted(check_texts(texts, "reference")))

    def __deepcopy__(self, memo: dict[int, Any]) -> ReferenceTexts:
        return self

    def some(self, count: int) -> ReferenceTexts:
        """Return at most ``count`` distinct texts, chosen by their hash."""
        distinct = sorted(set(self), key=text_key)
        return ReferenceTexts(sorted(distinct[:count]))


class DataTexts(ReferenceTexts):
    """Texts of data sets, where no task is what a model answered."""

    __slots__ = ()


def shared_texts(tasks: Sequence[Task]) -> ReferenceTexts:
    """Texts that most tasks have; where no two have the same, those of all tasks."""
    labelled = any(task.origin == "model" for task in tasks)
    kind = ReferenceTexts if labelled else DataTexts
    counts = Counter(task.text_key for task in tasks)
    key, count = counts.most_common(1)[0]
    if count > 1 or len(counts) == 1:
        texts = next(task.texts for task in tasks if task.text_key == key)
        return kind(sorted(texts))
    return kind(sorted(text for task in tasks for text in task.texts))
