"""Small blocks that several components share."""
