"""Imported once by the server that test processes are forked from."""

import torch  # noqa: F401
from transformers import AutoTokenizer, T5ForConditionalGeneration  # noqa: F401

from . import forked  # noqa: F401
from .llm import test_openai_client  # noqa: F401
