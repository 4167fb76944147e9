"""All around the core: studies, clusters, analysis, claims of the thesis, pages, export, the command."""
