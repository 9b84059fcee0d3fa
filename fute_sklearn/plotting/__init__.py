"""Pictures of rankings and of maps of tasks."""
