"""What the runs of a study say: from a table of runs to findings."""
