"""Extension points: derive from these classes, or give your objects these methods.

`BaseTaskEmbedder` is the base of embedders, `BaseRanker` that of rankers.  Models and
clients of language models need no base: `Model` and `LanguageModelClient` say what is
called on them.  `fute_sklearn.testing` checks all of them.
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
