"""hdarts: a research workbook for differentiable architecture search with hypernetworks."""
