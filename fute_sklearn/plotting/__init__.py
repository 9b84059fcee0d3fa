"""Displays of rankings and of projected task embeddings."""
