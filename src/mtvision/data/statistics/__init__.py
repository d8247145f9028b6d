"""What a data set has, counted."""
