"""Clients that reach language models, in this process or at a server."""
