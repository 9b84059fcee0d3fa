"""Label texts with fitted models of any kind, and cache their predictions."""
