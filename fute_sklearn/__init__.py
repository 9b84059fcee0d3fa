"""Task embeddings of data sets and models, in one space, for scikit-learn.

Where things are, from the ground up; each folder imports from those above it only::

    exceptions, _utils   errors; settings, stores, columns, alignment by name
    tasks, metrics       what is embedded, and how good a ranking is
    _engine              torch and transformers: T5, tuning, Fisher, causal models
    embedders            from a task to a vector and a student
    plotting             pictures
    models               from a model of any kind to a labelled task
    ranking              from vectors or students to an order
    llm                  language models with prompts, clients, choosing prompts
    base, testing        the bases to derive from, and the checks of what you write
    datasets, presets    real texts; the settings and prompts of the paper
"""

from ._utils._config import config_context, get_config, set_config
from .embedders._moment_embedder import MomentEmbedder
from .embedders._student import (
    StudentClassifier,
    StudentGenerator,
    StudentRegressor,
)
from .embedders._task_embedder import TaskEmbedder
from .embedders._task_vectorizer import TaskVectorizer
from .embedders._text_embedder import TextEmbedder
from .embedders._tupate_embedder import TuPaTEEmbedder
from .llm._prompt_selector import PromptSelector
from .llm._prompted_llm import PromptedLLM
from .llm.clients._openai_client import OpenAIClient
from .llm.clients._transformers_client import TransformersClient
from .models._mte_wrapper import MTEWrapper
from .plotting._ranking_display import RankingDisplay
from .plotting._task_map_display import TaskMapDisplay
from .ranking._model_ranker import ModelRanker
from .ranking._rank_models import rank_models
from .ranking._student_ranker import StudentRanker
from .tasks._embedding_file import load_embeddings, save_embeddings
from .tasks._task import Task
from .tasks._vectors import TaskVectors

__version__ = "0.1.0"

__all__ = [
    "MTEWrapper",
    "ModelRanker",
    "MomentEmbedder",
    "OpenAIClient",
    "PromptSelector",
    "PromptedLLM",
    "RankingDisplay",
    "StudentClassifier",
    "StudentGenerator",
    "StudentRanker",
    "StudentRegressor",
    "Task",
    "TaskEmbedder",
    "TaskMapDisplay",
    "TaskVectorizer",
    "TaskVectors",
    "TextEmbedder",
    "TransformersClient",
    "TuPaTEEmbedder",
    "config_context",
    "get_config",
    "load_embeddings",
    "rank_models",
    "save_embeddings",
    "set_config",
]
