"""Utilities: configuration, caches, conversion of tables, alignment by name."""
