"""Tasks (texts with targets), their label names, and arrays of task embeddings."""
