"""Exceptions and warnings; each also derives from a built-in exception or warning."""

from typing import Any

__all__ = [
    "BudgetExceededError",
    "CacheUnavailableWarning",
    "ClientCapabilityError",
    "DamagedCacheWarning",
    "DamagedRegistryWarning",
    "FingerprintMismatchError",
    "FuteError",
    "LabelMismatchError",
    "LabelMismatchWarning",
    "LanguageModelNotFoundError",
    "LanguageModelServerError",
    "ModelChangedError",
    "ModelLabelError",
    "ModelLabelWarning",
    "ReferenceStatisticsError",
    "RegistryDamagedError",
    "RowsFailedError",
    "SurrogateError",
    "SurrogateNotFoundError",
    "TruncationWarning",
    "UnknownModelWarning",
    "UnknownTokensWarning",
    "UnlabelledTextsWarning",
]


class FuteError(Exception):
    """Base class of the exceptions that are specific to this package."""


class SurrogateError(FuteError, ValueError):
    """The surrogate model is not a T5 or mT5 encoder-decoder, as is required."""


class SurrogateNotFoundError(FuteError, OSError):
    """The surrogate was not found or could not be loaded from its folder or hub id."""


class LanguageModelNotFoundError(FuteError, OSError):
    """The language model was not found or could not be loaded from folder or hub id."""


class ClientCapabilityError(FuteError, NotImplementedError):
    """A language model or its client does not support the requested operation."""


class LanguageModelServerError(FuteError, RuntimeError):
    """A language model server gave no answer, or one that failed the checks.

    Parameters
    ----------
    message : str
        The request, the answer and a remedy.
    kind : str
        Short name of the fault, such as ``"no logprobs"`` or ``"RateLimitError"``;
        kept as an attribute.
    fatal : bool, default=False
        Whether all further requests would fail in the same way, so that none is sent;
        kept as an attribute.
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
    """A client's budget of requests or tokens is used up; past answers are cached."""


class RowsFailedError(FuteError, RuntimeError):
    """Some rows of a call got no answer; the answers to the others are attached.

    Parameters
    ----------
    message : str
        Number of failed rows and the reasons.
    rows : dict of int to Exception
        The exception of each failed row, by position; kept as an attribute.
    answers : list
        One answer per row, None for failed rows; kept as an attribute.
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
    """Embeddings, encoded texts or a student belong to another space or surrogate."""


class LabelMismatchError(FuteError, ValueError):
    """The label names of a model and a task do not match, so no score is defined."""


class ReferenceStatisticsError(FuteError, ValueError):
    """`MomentEmbedder` has no reference texts, and its surrogate no statistics."""


class ModelLabelError(FuteError, RuntimeError):
    """A wrapped model failed to label texts; the message names model and rows."""


class ModelChangedError(FuteError, ValueError):
    """A registry holds another model under the name of the one that is added."""


class RegistryDamagedError(FuteError, ValueError):
    """The texts of a model registry cannot be read from its folder."""


class LabelMismatchWarning(UserWarning):
    """A model and a task share only some of their label names."""


class ModelLabelWarning(UserWarning):
    """Rows that a model could not label were dropped or labelled as missing."""


class CacheUnavailableWarning(UserWarning):
    """The cache folder cannot be read or written; results are computed without it."""


class DamagedCacheWarning(UserWarning):
    """A cache file is damaged; its content is computed or requested again."""


class DamagedRegistryWarning(UserWarning):
    """A file of a model registry is damaged; the message says what was done."""


class TruncationWarning(UserWarning):
    """Texts had more tokens than ``max_length`` and were truncated."""


class UnknownModelWarning(UserWarning):
    """A model cannot be known again in another process; its answers do not last."""


class UnknownTokensWarning(UserWarning):
    """Half or more of the tokens of some texts are unknown to the surrogate."""


class UnlabelledTextsWarning(UserWarning):
    """The unlabelled texts are too few, or too unlike the target's, to rank models."""
