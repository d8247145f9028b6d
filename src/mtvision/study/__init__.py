"""Studies: which choices matter, how sure that is, and what to use."""
