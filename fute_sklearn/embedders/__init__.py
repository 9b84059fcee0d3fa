"""Task embedders: moments, tuned parameters, Fisher information, mean text features."""
