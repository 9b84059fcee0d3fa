"""Leaves that know nothing of tasks: settings, stores, columns, alignment by name."""
