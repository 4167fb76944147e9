"""HTML pages: one notebook, and the thesis of a study."""
