"""Reports made of text, tables and pictures: one HTML file, Markdown, CSV; the extra ``report`` is needed."""
