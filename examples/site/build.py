"""Build the course as a web site: python -m pip install ".[site]" && python examples/site/build.py

Every lesson is run once, and shown with what it printed and drew. In the site a reader changes a number and runs the
lesson again, in the page: Python comes as WebAssembly (Pyodide), the library as its own wheel, and nothing is
installed. The site is in dist/site; to look at it: python -m http.server --directory dist/site
"""

import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import jupytext
import nbclient
from nbformat.v4 import new_code_cell, new_markdown_cell
from sphinx.cmd.build import build_main

import tinygrad_vae as tg
from tinygrad_vae.app.teaching import STEP

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LESSONS = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
MORE = {
    path: path.parent.name if path.stem == "README" else path.stem
    for pattern in ("*.md", "*/README.md")
    for path in sorted((ROOT / "examples").glob(pattern))
}
"""The texts that stand beside the lessons, each with the name of its page."""

BUILT = set()
"""The names of the lessons that are built."""

PYODIDE = "https://cdn.jsdelivr.net/pyodide/v314.0.7/full/"
"""Where a page gets Python from, if nothing else is said; this release holds the NumPy that the library asks for."""

PACKAGES = {"numpy": "numpy", "scipy": "scipy", "matplotlib": "matplotlib", "sklearn": "scikit-learn"}
"""What Pyodide has of the modules that a lesson may load, and its names there."""

LOADED = f"import sys; print(*[name for name in {list(PACKAGES)} if name in sys.modules])"

API = {
    "core": "The engine",
    "calculus": "Functions of arrays",
    "ops": "Ops",
    "distributions": "Distributions",
    "guard": "What would be wrong",
    "estimators": "Estimators",
    "draw": "Pictures of graphs",
    "vae": "The variational autoencoder",
    "nn": "Layers",
    "optim": "Optimizers",
    "compiled": "A recorded step, run again",
    "checks": "Tests for what you add",
    "other": "Numerics and devices",
}
"""The pages of the reference, each with the public names that are defined in the part of this name."""


def main():
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--out", type=Path, default=ROOT / "dist" / "site", help="where to write (default: dist/site)")
    words.add_argument("--lessons", nargs="+", metavar="NN", help="build some lessons only, by number")
    words.add_argument(
        "--pyodide",
        default=PYODIDE,
        metavar="URL",
        help="where the pages get Pyodide from: an address, or a folder to copy into the site (default: %(default)s)",
    )
    words.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many lessons to run at once")
    asked = words.parse_args()
    lessons = [path for path in LESSONS if not asked.lessons or path.stem[:2] in asked.lessons]
    BUILT.update(path.stem for path in lessons)

    out = asked.out.resolve()
    source, build = out.with_name(f"{out.name}-source"), out.with_name(f"{out.name}-build")
    for folder in (out, source, build):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "static", source / "static")
    shutil.copy(HERE / "conf.py", source)
    for folder in ("lessons", "reference", "static/pages"):
        (source / folder).mkdir()

    with concurrent.futures.ThreadPoolExecutor(asked.jobs) as pool:
        needed = dict(pool.map(lambda path: lesson(path, source, build), lessons))
    pages(source)
    reference(source)
    wheel, pyodide = make_wheel(source / "static"), asked.pyodide
    if Path(pyodide).is_dir():
        copy_pyodide(Path(pyodide), source / "static" / "pyodide")
        pyodide = "_static/pyodide/"
    settings = {"pyodide": pyodide, "wheel": f"_static/{wheel}", "lessons": needed}
    (source / "static" / "settings.js").write_text(f"window.COURSE = {json.dumps(settings, indent=1)};\n")

    failed = build_main(["-q", "-b", "html", "-d", str(build / "doctrees"), str(source), str(out)])
    if not failed:
        shutil.rmtree(source)
        shutil.rmtree(build)
        print(f"The site is in {out}. To look at it: python -m http.server --directory {out}")
    return failed


def lesson(path, source, build):
    """Run a lesson as a notebook and write it with its outputs; return its name and what it needs in a page."""
    folder = build / path.stem
    folder.mkdir(parents=True)
    notebook = jupytext.read(path)
    notebook.cells.append(new_code_cell(LOADED))
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        extra_arguments=["--InlineBackend.figure_formats=retina", "--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={name: value for name, value in os.environ.items() if name != "MPLBACKEND"})
    loaded = notebook.cells.pop().outputs[0].text.split()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source)
    for page in sorted(folder.glob("figures/*.html")):
        shutil.copy(page, source / "static" / "pages")
        end = (k for k, cell in enumerate(notebook.cells) if cell.source.startswith("## Where to read on"))
        notebook.cells.insert(next(end, len(notebook.cells)), new_markdown_cell(frame(page.name, "../")))
    jupytext.write(notebook, source / "lessons" / f"{path.stem}.ipynb")
    print(f"ran {path.stem}", flush=True)
    return path.stem, [PACKAGES[name] for name in loaded]


def frame(name, up=""):
    """Return a page in a frame, from a page in a folder that is ``up`` from the first one."""
    address = f"{up}_static/pages/{name}"
    return (
        f'<iframe class="play" src="{address}" title="A page to play with" loading="lazy"></iframe>\n\n'
        f'<p class="play-link"><a href="{address}">The same page in a window of its own</a></p>\n'
    )


def linked(text):
    """Make links of the names of lessons, as they stand in other lessons."""

    def link(match):
        return f"[{match[0]}]({match[1]}.ipynb)" if match[1] in BUILT else match[0]

    return re.sub(r"(?<![\w/(\[.`])(\d\d_\w+)\.py", link, text)


def written(path, source):
    """Write a Markdown file of the repository into the site, with its pictures, and its links to lessons."""

    def picture(match):
        shutil.copy(path.parent / match[2], source / "static" / "pages")
        return f"![{match[1]}](/static/pages/{Path(match[2]).name})"

    def link(match):
        words, address = match[1], path.parent / match[2]
        if address.stem in BUILT:
            return f"[{words}](/lessons/{address.stem}.ipynb)"
        name = MORE.get(address.resolve())
        return f"[{words}](/pages/{name}.md)" if name else words

    text = path.read_text(encoding="utf-8")
    text = re.sub(r"!\[([^\]]*)\]\((?!https?:)([^)]*)\)", picture, text)
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)]*)\)", link, text)


def pages(source):
    """Write the README as the first page with the table of contents, the other texts, and a page to play with."""
    (source / "pages").mkdir()
    for path, name in MORE.items():
        (source / "pages" / f"{name}.md").write_text(written(path, source), encoding="utf-8")
    step_page(source / "static" / "pages" / "step.html")
    play = ["# Play with a graph"]
    for file in sorted((source / "static" / "pages").glob("*.html")):
        title = re.search(r"<title>(.*?)</title>", file.read_text(encoding="utf-8"))
        play += [f"## {'A training step of a variational autoencoder' if file.stem == 'step' else title[1]}"]
        play += [frame(file.name)]
    (source / "play.md").write_text("\n\n".join(play) + "\n", encoding="utf-8")
    contents = {
        "The course": [f"lessons/{stem}" for stem in sorted(BUILT)],
        "Play": ["play"],
        "Reference": [f"reference/{part}" for part in API],
        "More": [f"pages/{name}" for name in MORE.values()],
    }
    trees = [f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{chr(10).join(p)}\n```" for title, p in contents.items()]
    text = written(ROOT / "README.md", source)
    (source / "index.md").write_text("\n\n".join([text, *trees]) + "\n", encoding="utf-8")


def step_page(path):
    """Write the page of a training step, the one that ``tinygrad-vae explain`` shows."""
    step = {}
    exec(compile(STEP, "step.py", "exec"), step)
    loss = step["loss"]
    titles = ("z is drawn: the gradient is cut", "reparameterized: the gradient gets through")
    tg.draw_side_by_side(loss, tg.reparameterize(loss), path, titles=titles, wrt=step["model"])


def reference(source):
    """Write a page for each part of the library, with what ``import tinygrad_vae as tg`` gives of it."""
    found = {part: [] for part in API}
    for name, thing in vars(tg).items():
        if name.startswith("_") or isinstance(thing, (types.ModuleType, dict)):
            continue
        module = getattr(thing, "__module__", None) or type(thing).__module__
        part = module.partition(".")[2].partition(".")[0]
        part = "guard" if isinstance(thing, type) and issubclass(thing, (Exception, Warning)) else part
        found[part if part in API else "other"].append((name, thing))
    for name in ("nn", "optim", "vae"):
        module = getattr(tg, name)
        known = {word for word, _ in found[name]}
        found[name] += [
            (f"{name}.{word}", thing)
            for word, thing in vars(module).items()
            if callable(thing) and not word.startswith("_") and word not in known
            if getattr(thing, "__module__", "").startswith(f"tinygrad_vae.{name}")
        ]
    for part, things in found.items():
        package = sys.modules.get(f"tinygrad_vae.{part}")
        lines = [API[part], "=" * len(API[part]), "", (package.__doc__ or "" if package else ""), ""]
        for name, thing in things:
            directive = "autoclass" if isinstance(thing, type) else "autofunction" if callable(thing) else "autodata"
            lines += [f".. {directive}:: tinygrad_vae.{name}"]
            if isinstance(thing, type) and not issubclass(thing, (Exception, Warning)):
                lines += ["   :members:"]
            lines += [""]
        (source / "reference" / f"{part}.rst").write_text("\n".join(lines), encoding="utf-8")


def make_wheel(folder):
    """Build the wheel of the library, which a page loads."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
    subprocess.run(command, check=True)
    return next(folder.glob("tinygrad_vae-*.whl")).name


def copy_pyodide(folder, target):
    """Copy what the lessons need of a Pyodide distribution."""
    target.mkdir()
    known = json.loads((folder / "pyodide-lock.json").read_text())["packages"]
    wanted, names = ["micropip", *PACKAGES.values()], set()
    while wanted:
        package = known[wanted.pop()]
        if package["file_name"] not in names:
            names.add(package["file_name"])
            wanted += package["depends"]
    core = [path.name for path in folder.glob("pyodide*") if path.suffix in (".js", ".mjs", ".wasm", ".json")]
    for name in [*core, "python_stdlib.zip", *names]:
        shutil.copy(folder / name, target)


if __name__ == "__main__":
    sys.exit(main())
