"""hdarts: differentiable architecture search with hypernetworks, as a workbook."""
