// Runs the cells of one lesson, away from the page, so that the page stays alive and can stop it.

let runCell;

async function start({ pyodide, wheel, packages, cell }) {
  const tell = (text) => postMessage({ kind: "status", text });
  tell("fetching Python …");
  const { loadPyodide } = await import(pyodide + "pyodide.mjs");
  const python = await loadPyodide({ indexURL: pyodide });
  tell(`fetching ${packages.join(", ")} …`);
  await python.loadPackage(packages, { messageCallback: () => {} });
  for (const [name, address] of [["library.whl", wheel], ["cell.py", cell]]) {
    const found = await fetch(address);
    if (!found.ok) throw new Error(`${address}: ${found.status} ${found.statusText}`);
    python.FS.writeFile(`/home/pyodide/${name}`, new Uint8Array(await found.arrayBuffer()));
  }
  python.runPython("import zipfile; zipfile.ZipFile('library.whl').extractall()");
  tell("importing …");
  runCell = python.pyimport("cell").run;
  postMessage({ kind: "ready", text: python.runPython("import platform; platform.python_version()") });
}

onmessage = async ({ data }) => {
  try {
    if (data.kind === "start") return await start(data);
    const show = (kind, content) => postMessage({ kind: "show", id: data.id, what: kind, content });
    const begun = performance.now();
    const result = runCell(data.source, data.number, show);
    postMessage({ kind: "done", id: data.id, result, seconds: (performance.now() - begun) / 1000 });
  } catch (error) {
    postMessage({ kind: "failed", id: data.id, text: String(error.message || error) });
  }
};
