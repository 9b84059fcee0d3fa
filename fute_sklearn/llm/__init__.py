"""A language model with a prompt as a model, and choosing among prompts."""
