"""Prompted language models as classifiers, prompt selection, and clients."""
