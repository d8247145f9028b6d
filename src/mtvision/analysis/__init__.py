"""What a model gets wrong, where, and what that goes along with; the extra ``report`` is needed."""
