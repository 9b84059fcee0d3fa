"""Errors and warnings of fute_sklearn; each also is one of Python's own."""

__all__ = [
    "ClientCapabilityError",
    "DamagedCacheWarning",
    "FingerprintMismatchError",
    "FuteError",
    "LanguageModelNotFoundError",
    "ModelLabelError",
    "ModelLabelWarning",
    "ReferenceStatisticsError",
    "SurrogateError",
    "SurrogateNotFoundError",
    "TruncationWarning",
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


class FingerprintMismatchError(FuteError, ValueError):
    """Embeddings of different spaces were to be compared with each other."""


class ReferenceStatisticsError(FuteError, ValueError):
    """A moment embedding lacks the reference texts that define its space."""


class ModelLabelError(FuteError, RuntimeError):
    """A wrapped model failed to label texts; says which model and which rows."""


class ModelLabelWarning(UserWarning):
    """Rows that a wrapped model could not label were dropped."""


class DamagedCacheWarning(UserWarning):
    """A damaged cache file was found; its content is computed again."""


class TruncationWarning(UserWarning):
    """Texts were longer than the surrogate's ``max_length`` and were cut."""
