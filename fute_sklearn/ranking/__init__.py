"""From vectors or students to an order of the models."""
