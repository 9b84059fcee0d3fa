"""From a task to a vector: moments, tuned parameters, Fisher information, texts."""
