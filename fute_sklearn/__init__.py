"""Task embeddings of data sets and models, in one space, for scikit-learn."""

from ._config import config_context, get_config, set_config
from ._embedding_file import load_embeddings, save_embeddings
from ._model_ranker import ModelRanker
from ._moment_embedder import MomentEmbedder
from ._mte_wrapper import MTEWrapper
from ._openai_client import OpenAIClient
from ._prompt_selector import PromptSelector
from ._prompted_llm import PromptedLLM
from ._rank_models import rank_models
from ._ranking_display import RankingDisplay
from ._student_ranker import StudentRanker
from ._task import Task
from ._task_embedder import TaskEmbedder
from ._task_map_display import TaskMapDisplay
from ._task_vectorizer import TaskVectorizer
from ._text_embedder import TextEmbedder
from ._transformers_client import TransformersClient
from ._tupate_embedder import TuPaTEEmbedder
from ._vectors import TaskVectors

__version__ = "0.1.0"

__all__ = [
    "MTEWrapper",
    "ModelRanker",
    "MomentEmbedder",
    "OpenAIClient",
    "PromptSelector",
    "PromptedLLM",
    "RankingDisplay",
    "StudentRanker",
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
