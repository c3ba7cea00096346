"""Reports as files: pages from templates, and pictures."""
