// Lets a reader change a lesson and run it in the page.

const root = new URL(document.documentElement.dataset.content_root || "./", location.href);
const name = location.pathname.split("/").pop().replace(/\.html$/, "");
const packages = window.COURSE?.lessons[name];
const cells = packages ? [...document.querySelectorAll("div.cell")].map(cellOf).filter(Boolean) : [];
let worker = null;
let running = null; // the cells that are still to run, while some are
let ready = null;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function cellOf(node, k) {
  const pre = node.querySelector("div.cell_input pre");
  return pre && { node, pre, built: node.querySelector("div.cell_output"), original: pre.innerHTML, ran: null };
}

const source = (cell) => cell.pre.textContent.replace(/\n$/, "");

function prepare() {
  const status = element("span", { class: "course-status", role: "status" });
  const run = element("button", { type: "button", class: "course-run", onclick: () => runTo(cells.length - 1) }, "▶ Run the lesson here");
  const stop = element("button", { type: "button", onclick: halt, hidden: "" }, "■ Stop");
  const reset = element("button", { type: "button", onclick: restore, hidden: "" }, "Undo all changes");
  const bar = element("div", { class: "course-bar" }, run, stop, reset, status);
  const places = [cells[0].node, document.querySelector("article section > section")].filter(Boolean);
  const first = places.find((place) => places.every((other) => !(other.compareDocumentPosition(place) & Node.DOCUMENT_POSITION_FOLLOWING)));
  first.before(element("p", {}, "Change any number in the code below and run it: Python runs in this page, and nothing is installed."), bar);
  cells.forEach((cell, k) => {
    cell.number = k + 1;
    cell.pre.setAttribute("contenteditable", "plaintext-only");
    cell.pre.setAttribute("role", "textbox");
    cell.pre.setAttribute("aria-multiline", "true");
    cell.pre.setAttribute("aria-label", `Code of cell ${k + 1}`);
    cell.pre.setAttribute("spellcheck", "false");
    cell.pre.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.shiftKey || event.ctrlKey)) {
        event.preventDefault();
        runTo(k);
      }
    });
    cell.pre.addEventListener("input", () => (reset.hidden = false));
    cell.says = element("span", { class: "course-status", role: "status" });
    cell.button = element("button", { type: "button", onclick: () => runTo(k), "aria-label": `Run up to cell ${k + 1}` }, "▶ Run");
    cell.live = element("div", { class: "course-live", hidden: "" });
    cell.node.querySelector("div.cell_input").after(element("div", { class: "course-strip" }, cell.button, cell.says), cell.live);
  });
  Object.assign(prepare, { status, run, stop, reset });
}

function launch() {
  if (worker) return ready;
  const at = (address) => new URL(address, root).href;
  worker = new Worker(at("_static/worker.js"), { type: "module" });
  ready = new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      if (data.kind === "status") prepare.status.textContent = data.text;
      else if (data.kind === "ready") resolve(data.text);
      else if (data.kind === "failed") reject(new Error(data.text));
    };
    worker.onerror = (event) => reject(new Error(event.message || "the worker could not be started"));
  });
  worker.postMessage({
    kind: "start",
    pyodide: at(window.COURSE.pyodide),
    wheel: at(window.COURSE.wheel),
    packages,
    cell: at("_static/cell.py"),
  });
  return ready;
}

function halt() {
  worker?.terminate();
  worker = running = ready = null;
  for (const cell of cells) {
    cell.ran = null;
    cell.button.disabled = false;
  }
  prepare.status.textContent = "stopped; the next run begins anew";
  prepare.stop.hidden = true;
  prepare.run.disabled = false;
}

function restore() {
  if (worker) halt();
  for (const cell of cells) {
    cell.pre.innerHTML = cell.original;
    cell.live.hidden = true;
    cell.live.replaceChildren();
    cell.says.textContent = "";
    if (cell.built) cell.built.hidden = false;
  }
  prepare.status.textContent = "";
  prepare.reset.hidden = true;
}

async function runTo(last) {
  if (running) return;
  running = true;
  prepare.stop.hidden = prepare.reset.hidden = false;
  for (const button of [prepare.run, ...cells.map((cell) => cell.button)]) button.disabled = true;
  try {
    const version = await launch();
    const mine = worker;
    const changed = cells.findIndex((cell) => cell.ran !== source(cell));
    const first = changed < 0 || changed > last ? last : changed;
    for (let k = first; k <= last; k++) {
      prepare.status.textContent = `Python ${version}, cell ${k + 1} of ${cells.length} …`;
      const result = await runOne(cells[k]);
      if (worker !== mine) return;
      if (result.startsWith("error")) {
        prepare.status.textContent = `cell ${k + 1} ended with an error`;
        return;
      }
    }
    prepare.status.textContent = last === cells.length - 1 ? "the lesson has run to its end" : `ran up to cell ${last + 1}`;
  } catch (error) {
    const fetched = location.protocol === "file:" ? ". A page opened from a file cannot start Python: serve the folder, python -m http.server" : "";
    prepare.status.textContent = `this did not work: ${error.message}${fetched}`;
    worker?.terminate();
    worker = ready = null;
  } finally {
    running = null;
    prepare.stop.hidden = true;
    for (const button of [prepare.run, ...cells.map((cell) => cell.button)]) button.disabled = false;
  }
}

function runOne(cell) {
  cell.live.replaceChildren();
  cell.live.hidden = false;
  if (cell.built) cell.built.hidden = true;
  cell.says.textContent = "…";
  const asked = source(cell);
  for (const later of cells.slice(cell.number - 1)) later.ran = null;
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      if (data.kind === "show") display(cell.live, data.what, data.content);
      else if (data.kind === "failed") reject(new Error(data.text));
      else if (data.kind === "done") {
        const [outcome, ...words] = data.result.split(": ");
        cell.ran = outcome === "error" ? null : asked;
        cell.says.textContent = `${outcome || "ran"}, ${data.seconds.toFixed(1)} s`;
        if (outcome === "error") cell.live.append(element("pre", { class: "course-error" }, words.join(": ")));
        if (outcome === "skipped") skip(cell, words.join(": "));
        resolve(data.result);
      }
    };
    worker.postMessage({ kind: "run", source: asked, number: cell.number });
  });
}

function skip(cell, words) {
  const built = cell.built ? " What it showed when this site was built stands below." : "";
  cell.live.append(element("p", { class: "course-skipped" }, `Skipped: ${words}.${built}`));
  if (cell.built) cell.built.hidden = false;
}

function display(live, kind, content) {
  if (kind === "text") {
    let pre = live.lastElementChild;
    if (!pre?.matches("pre.course-text")) live.append((pre = element("pre", { class: "course-text" })));
    pre.append(content);
  } else if (kind === "image/png") {
    live.append(element("img", { src: `data:image/png;base64,${content}`, alt: "a picture that the cell drew" }));
  } else if (kind === "image/svg+xml") {
    live.append(element("img", { src: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(content)}`, alt: "a picture that the cell drew" }));
  } else if (kind === "page") {
    live.append(element("iframe", { class: "play", srcdoc: content, title: "A page that the cell wrote" }));
  } else {
    const made = element("div", { class: "course-html" });
    made.innerHTML = content;
    live.append(made);
  }
}

if (cells.length) prepare();
