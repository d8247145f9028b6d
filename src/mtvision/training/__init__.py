"""The loop, its checkpoints and what surrounds them."""
