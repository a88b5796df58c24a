"""How Sphinx builds the site; ``build.py`` lays out the pages."""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

project = "tinygrad_vae"
html_title = "tinygrad_vae"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
nb_execution_mode = "off"  # build.py has run the lessons
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type", "misc.highlighting_failure"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_use_rtype = False

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["course.css"]
html_js_files = ["settings.js", ("lesson.js", {"type": "module"})]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
html_favicon = "static/favicon.svg"
html_math_renderer = "mathml"


def _mathml(display):
    def write(writer, node):
        formula = convert(node.astext(), display=display)
        writer.body.append(formula if display == "inline" else f"<div>{formula}</div>")
        raise SkipNode

    return write


def setup(app):
    """Let formulas be MathML, which a browser shows without a script and without a network."""
    app.add_html_math_renderer("mathml", (_mathml("inline"), None), (_mathml("block"), None))
