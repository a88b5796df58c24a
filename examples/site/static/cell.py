"""Runs the cells of a lesson in a page, and hands over what they print and draw.

It is run by Pyodide, in a browser or in Node, and knows nothing of either: ``show(kind, data)`` takes what is to be
seen, a kind being ``text``, ``image/png`` (base64), ``image/svg+xml``, ``text/html`` or ``page``, a whole HTML file.
"""

import ast
import base64
import contextlib
import io
import linecache
import logging
import os
import sys
import traceback
import types
from pathlib import Path

os.environ["MPLBACKEND"] = "agg"
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of a cache of fonts, which nobody asked for
lesson = types.ModuleType("__main__")
sys.modules["__main__"] = lesson
sys.argv = ["lesson.py"]
skipped = []


class _Stream(io.TextIOBase):
    """Text that is shown as soon as it is written."""

    def __init__(self, show):
        self.show = show

    def writable(self):
        return True

    def write(self, text):
        if text:
            self.show("text", text)
        return len(text)


def run(source, number, show):
    """Run a cell, and return what came of it: ``""``, ``"skipped: ..."``, or ``"error: ..."`` with a traceback."""
    name = f"cell {number}"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    before = _written()
    stream = _Stream(show)
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            value = _run(ast.parse(source, name), name)
        _show_value(value, show)
        _show_figures(before, show)
    except (Exception, SystemExit) as error:
        if _is_missing(error):
            skipped.append(number)
            return f"skipped: it needs more than a page has ({error})"
        if isinstance(error, NameError) and skipped:
            return f"skipped: it needs cell {skipped[-1]}, which was skipped ({error})"
        return _failed(error)
    return ""


def _is_missing(error):
    """Return whether a browser has no such thing: a package that is not made for it, or threads."""
    if isinstance(error, ImportError):
        return not (error.name or "").startswith("tinygrad_vae")
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)


def _run(tree, name):
    """Run the statements of a cell, and return the value of the last one, if it is an expression."""
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), lesson.__dict__)
    return None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), lesson.__dict__)


def _failed(error):
    found = traceback.TracebackException.from_exception(error)
    while found.stack and found.stack[0].filename == __file__:
        found.stack.pop(0)
    return "error: " + "".join(found.format())


def _show_value(value, show):
    html = getattr(value, "_repr_html_", None)
    if html is not None:
        show("text/html", html())
    elif value is not None:
        show("text", f"{value!r}\n")


def _written():
    return {path: path.stat().st_mtime_ns for path in Path("figures").glob("*.*")}


def _show_figures(before, show):
    """Show the open figures and close them; else the pictures that were saved, and the pages in any case."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    figures = pyplot.get_fignums() if pyplot else []
    for number in figures:
        content = io.BytesIO()
        pyplot.figure(number).savefig(content, format="png", dpi=150)
        show("image/png", base64.b64encode(content.getvalue()).decode())
    if figures:
        pyplot.close("all")
    for path, when in sorted(_written().items()):
        if before.get(path) == when:
            continue
        if path.suffix == ".html":
            show("page", path.read_text())
        elif path.suffix == ".svg" and not figures:
            show("image/svg+xml", path.read_text())
        elif path.suffix == ".png" and not figures:
            show("image/png", base64.b64encode(path.read_bytes()).decode())
