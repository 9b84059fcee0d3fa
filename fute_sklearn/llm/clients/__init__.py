"""Clients of language models in this process or on a server."""
