"""Task embeddings of data sets and models in one vector space, for scikit-learn.

Modules and subpackages; each imports only from its own line and those above it::

    exceptions, _utils   exceptions; configuration, caches, tables, alignment by name
    tasks, metrics       tasks (texts with targets), vectors; metrics of rankings
    _engine              all code on torch: T5, tuning, Fisher information, causal LMs
    embedders            estimators that map a task to an embedding and a student
    plotting             displays of rankings and embeddings
    models               wrapper that labels texts with any fitted model
    ranking              rankings of models by embeddings or by students' scores,
                         how sure they are, and a registry of models
    llm                  prompted language models as classifiers, prompt selection
    base, testing        base classes and protocols; checks of custom estimators
    datasets, presets    example data sets; hyperparameters and prompts of the paper
"""

from ._utils._cache_files import cache_info, clear_cache
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
from .models._label_parser import LabelParser
from .models._match_labels import LabelMatch, match_labels
from .models._mte_wrapper import MTEWrapper
from .plotting._explanation_display import ExplanationDisplay
from .plotting._ranking_display import RankingDisplay
from .plotting._task_map_display import TaskMapDisplay
from .ranking._add_labels import add_labels
from .ranking._answer_drift import AnswerDrift
from .ranking._explain import explain
from .ranking._forecast import forecast
from .ranking._model_ranker import ModelRanker
from .ranking._model_registry import ModelRegistry
from .ranking._plan_labels import plan_labels, settle_ranking
from .ranking._rank_models import rank_models
from .ranking._score_posterior import ScorePosterior
from .ranking._student_ranker import StudentRanker
from .tasks._embedding_file import load_embeddings, save_embeddings
from .tasks._task import Task
from .tasks._vectors import TaskVectors

__version__ = "0.1.0"

__all__ = [
    "AnswerDrift",
    "ExplanationDisplay",
    "LabelMatch",
    "LabelParser",
    "MTEWrapper",
    "ModelRanker",
    "ModelRegistry",
    "MomentEmbedder",
    "OpenAIClient",
    "PromptSelector",
    "PromptedLLM",
    "RankingDisplay",
    "ScorePosterior",
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
    "add_labels",
    "cache_info",
    "clear_cache",
    "config_context",
    "explain",
    "forecast",
    "get_config",
    "load_embeddings",
    "match_labels",
    "plan_labels",
    "rank_models",
    "save_embeddings",
    "set_config",
    "settle_ranking",
]
