"""All code that imports torch and transformers: models, tuning, Fisher information."""

from ._causal import CausalModel, load_causal
from ._encoder import Encoded, EncoderWork, encode_texts, encoder_steps, encoder_work
from ._export import load_adapter, save_adapter, save_model
from ._fine_tune import fine_tune
from ._fisher import fisher_diagonals
from ._likelihood import LabelObjective, TextObjective, label_tree
from ._load import (
    DEFAULT_SURROGATE,
    TINY_SURROGATE,
    Surrogate,
    global_random_state,
    load_surrogate,
)
from ._student import Student
from ._tokenize import unreadable_share
from ._tuned_parameters import TuneSettings
from ._tuning import TuneResult, task_batches, tune_labels, tune_texts

__all__ = [
    "DEFAULT_SURROGATE",
    "TINY_SURROGATE",
    "CausalModel",
    "Encoded",
    "EncoderWork",
    "LabelObjective",
    "Student",
    "Surrogate",
    "TextObjective",
    "TuneResult",
    "TuneSettings",
    "encode_texts",
    "encoder_steps",
    "encoder_work",
    "fine_tune",
    "fisher_diagonals",
    "global_random_state",
    "label_tree",
    "load_adapter",
    "load_causal",
    "load_surrogate",
    "save_adapter",
    "save_model",
    "task_batches",
    "tune_labels",
    "tune_texts",
    "unreadable_share",
]
