"""The settings of the FUTE paper's code, in one place."""

from __future__ import annotations

from typing import Any

__all__ = ["reference_settings"]

SURROGATE = "google-t5/t5-base"
CASES: dict[str, dict[str, Any]] = {
    "mte-language-model": {"max_length": 128, "batch_size": 128, "max_epochs": 1},
    "mte-llm": {"max_length": 496, "batch_size": 128, "max_epochs": 3},
    "dte-classification": {"max_length": 128, "batch_size": 32, "max_epochs": 120},
    "dte-qa": {"max_length": 384, "batch_size": 32, "max_epochs": 60},
}
TUNING_RATES = {
    "mte-language-model": 1e-3,
    "mte-llm": 1e-3,
    "dte-classification": 1e-2,
    "dte-qa": 5e-3,
}
FISHER_RATES = {**dict.fromkeys(CASES, 2e-5), "dte-qa": 3e-5}


def reference_settings(method: str, case: str) -> dict[str, Any]:
    """Return the parameters of an embedder as the authors of FUTE ran it.

    T5-base; AdamW with weight decay 0.01, gradients clipped at 1, a linear schedule
    with 5 % warm-up; prefixes of 16 positions with dropout 0.15; data sets are tuned
    until early stopping, models for a fixed number of epochs.  The defects of that
    code (untrained cross-attention prefixes, no seeds, the square of mean gradients)
    are not reproduced, and labels are scored over the label words.

    Parameters
    ----------
    method : {"tupate", "taskemb"}
        Parameters of `TuPaTEEmbedder` or `TaskEmbedder`.
    case : {"mte-language-model", "mte-llm", "dte-classification", "dte-qa"}
        Whether a model or a data set is embedded, and of which kind.

    Returns
    -------
    params : dict
        Keyword arguments.

    References
    ----------
    Wang et al. (2024), "Towards unified task embeddings across multiple models"
    (FUTE), appendix, and its public code.

    Examples
    --------
    >>> from fute_sklearn import TuPaTEEmbedder
    >>> from fute_sklearn.presets import reference_settings
    >>> est = TuPaTEEmbedder(**reference_settings("tupate", "dte-classification"))
    >>> est.learning_rate
    0.01
    """
    if method not in ("tupate", "taskemb"):
        raise ValueError(f"method={method!r}, expected 'tupate' or 'taskemb'.")
    if case not in CASES:
        raise ValueError(f"case={case!r}, expected one of {sorted(CASES)}.")
    shared = {"surrogate": SURROGATE, **CASES[case]}
    if method == "taskemb":
        # Early stopping belongs to tuning; three epochs are its usual length here.
        shared["max_epochs"] = min(shared["max_epochs"], 3)
        return {
            **shared,
            "learning_rate": FISHER_RATES[case],
            "fine_tuning": "full",
            "params": "all",
        }
    return {
        **shared,
        "tuning": "prompt",
        "prefix_length": 16,
        "learning_rate": TUNING_RATES[case],
        "weight_decay": 0.01,
        "warmup_fraction": 0.05,
        "dropout": 0.15,
        "clip_norm": 1.0,
        "early_stopping": case.startswith("dte"),
    }
