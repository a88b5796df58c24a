// Runs the cells of a lesson with Pyodide in Node, as worker.js does in a page:
// node run_cells.mjs PYODIDE WHEEL CELL_PY PACKAGES < cells.json > results.json

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, wheel, cell, packages] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(folder + "/pyodide.mjs"));
const python = await loadPyodide({ indexURL: folder + "/" });
await python.loadPackage(packages.split(","), { messageCallback: () => {} });
python.FS.writeFile("/home/pyodide/library.whl", readFileSync(wheel));
python.FS.writeFile("/home/pyodide/cell.py", readFileSync(cell));
python.runPython("import zipfile; zipfile.ZipFile('library.whl').extractall()");
const run = python.pyimport("cell").run;

const results = JSON.parse(readFileSync(0, "utf8")).map((source, k) => {
  const shown = [];
  const result = run(source, k + 1, (kind, content) => shown.push([kind, content]));
  const text = shown.map(([kind, content]) => (kind === "text" ? content : ""));
  return { result, text: text.join(""), kinds: shown.map(([kind]) => kind).filter((kind) => kind !== "text") };
});
process.stdout.write(JSON.stringify(results));
