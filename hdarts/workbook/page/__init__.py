"""HTML pages: one notebook, and the report of a study."""
