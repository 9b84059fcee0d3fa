"""Base classes and protocols for custom embedders, rankers, models and clients.

Custom embedders derive from `BaseTaskEmbedder`, custom rankers from `BaseRanker`.
Models and clients of language models need no base class: the protocols `Model` and
`LanguageModelClient` list the methods and attributes that they must have.
`fute_sklearn.testing` checks embedders, rankers and clients.
"""

from .embedders._base_embedder import BaseTaskEmbedder
from .embedders._student import BaseStudent
from .llm.clients._protocol import LanguageModelClient
from .models._protocol import Model
from .ranking._base_ranker import BaseRanker

__all__ = [
    "BaseRanker",
    "BaseStudent",
    "BaseTaskEmbedder",
    "LanguageModelClient",
    "Model",
]
