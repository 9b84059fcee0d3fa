"""What is embedded: texts with their targets, label names, and vectors of a space."""
