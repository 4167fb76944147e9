"""Settings of Sphinx for the book; `build.py` collects its sources. Nothing is loaded from the network."""

project = "hdarts"
author = "the authors of hdarts"
root_doc = "index"
extensions = ["myst_nb", "hdarts.workbook.book.pages"]
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
suppress_warnings = ["ref.python"]  # a type of a signature whose name two modules have: the first one is linked
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 90

html_theme = "pydata_sphinx_theme"
html_title = "hdarts"
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # it would fetch pages, which browsers refuse for files
html_static_path = ["static"]
html_css_files = ["book.css"]
html_context = {"default_mode": "auto"}  # light or dark as the system is
html_theme_options = {
    "use_edit_page_button": False,
    "show_toc_level": 2,
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
