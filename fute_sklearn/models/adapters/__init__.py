"""Adapters: ask models of many libraries as if they were scikit-learn's."""
