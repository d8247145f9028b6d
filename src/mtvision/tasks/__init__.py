"""Tasks: head + loss + postprocess + metrics."""
