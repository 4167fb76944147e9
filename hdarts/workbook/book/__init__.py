"""The workbook as a book: guide pages, executed notebooks, results and API pages as one static site."""
