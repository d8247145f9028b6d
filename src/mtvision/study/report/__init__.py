"""A study for a person to read: HTML, Markdown, tables, plots, a gallery."""
