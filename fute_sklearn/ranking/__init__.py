"""Rankings of models for a task, by their embeddings or their students' scores."""
