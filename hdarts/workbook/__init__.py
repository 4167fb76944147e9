"""What surrounds the core: studies, clusters, analysis, claims of the report, pages, export, the command."""
