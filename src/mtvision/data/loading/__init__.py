"""From a data set to batches: orders, samplers, workers, cache."""
