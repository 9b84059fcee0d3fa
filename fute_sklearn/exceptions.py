"""Errors and warnings of fute_sklearn; each also is one of Python's own."""

from typing import Any

__all__ = [
    "BudgetExceededError",
    "CacheUnavailableWarning",
    "ClientCapabilityError",
    "DamagedCacheWarning",
    "FingerprintMismatchError",
    "FuteError",
    "LabelMismatchError",
    "LabelMismatchWarning",
    "LanguageModelNotFoundError",
    "LanguageModelServerError",
    "ModelLabelError",
    "ModelLabelWarning",
    "ReferenceStatisticsError",
    "RowsFailedError",
    "SurrogateError",
    "SurrogateNotFoundError",
    "TruncationWarning",
    "UnknownTokensWarning",
]


class FuteError(Exception):
    """Common root of the errors that only this package raises."""


class SurrogateError(FuteError, ValueError):
    """The surrogate can be read but is of no use here, as it is no T5."""


class SurrogateNotFoundError(FuteError, OSError):
    """The surrogate's path does not exist, or its hub cannot be reached."""


class LanguageModelNotFoundError(FuteError, OSError):
    """The language model's path does not exist, or its hub cannot be reached."""


class ClientCapabilityError(FuteError, NotImplementedError):
    """A client of a language model cannot give what is asked of it."""


class LanguageModelServerError(FuteError, RuntimeError):
    """A server of a language model gave no answer, or one that cannot be trusted.

    Parameters
    ----------
    message : str
        What was asked, what came, and the remedy.
    kind : str
        Short name of the fault, for counting and choosing what to do.
    fatal : bool, default=False
        Whether all further requests would fail in the same way.
    """

    def __init__(self, message: str, kind: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.fatal = fatal

    def __reduce__(self) -> Any:
        return _server_error, (str(self), self.kind, self.fatal)


def _server_error(message: str, kind: str, fatal: bool) -> LanguageModelServerError:
    return LanguageModelServerError(message, kind, fatal=fatal)


class BudgetExceededError(FuteError, RuntimeError):
    """A client's budget of requests or tokens is spent; all answers so far are kept."""


class RowsFailedError(FuteError, RuntimeError):
    """Some rows got no answer; all the others did, and theirs are kept.

    Parameters
    ----------
    message : str
        How many failed, and why.
    rows : dict of int to Exception
        What went wrong, by row.
    answers : list
        The answers; None for the rows that failed.
    """

    def __init__(
        self, message: str, rows: dict[int, Exception], answers: list[Any]
    ) -> None:
        super().__init__(message)
        self.rows = rows
        self.answers = answers

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.rows, self.answers)


class FingerprintMismatchError(FuteError, ValueError):
    """Embeddings of different spaces were to be compared with each other."""


class LabelMismatchError(FuteError, ValueError):
    """A model's labels and a task's are not the same names, so no score would count."""


class ReferenceStatisticsError(FuteError, ValueError):
    """A moment embedding lacks the reference texts that define its space."""


class ModelLabelError(FuteError, RuntimeError):
    """A wrapped model failed to label texts; says which model and which rows."""


class LabelMismatchWarning(UserWarning):
    """Some of a model's labels are unknown to the task, or the other way round."""


class ModelLabelWarning(UserWarning):
    """Rows that a wrapped model could not label were dropped."""


class CacheUnavailableWarning(UserWarning):
    """The folder of the caches cannot be used; work goes on without it."""


class DamagedCacheWarning(UserWarning):
    """A damaged cache file was found; its content is computed again."""


class TruncationWarning(UserWarning):
    """Texts were longer than the surrogate's ``max_length`` and were cut."""


class UnknownTokensWarning(UserWarning):
    """The surrogate's vocabulary lacks most of some texts, so it cannot read them."""
