"""How the runs of a study are done: a queue in a database, and workers."""
