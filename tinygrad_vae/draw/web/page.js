// Sliders and draws, which all parts of the page share, and the beginning.

const get = (id) => document.getElementById(id);

/** Show everything for the sliders and noises as they are now. */
function refresh() {
  showSliders();
  showGraph();
  if (page.gesture) showGesture();
  if (page.estimators?.length) {
    showHistograms();
    showHill();
  }
}

/** Return a radio button that looks like one of several buttons in a row. */
function choice(group, words, checked, onchange) {
  const label = document.createElement("label"),
    input = document.createElement("input");
  Object.assign(input, { type: "radio", name: group, checked, onchange });
  label.append(input, words);
  return label;
}

// ---------------------------------------------------------------- sliders

const sliderRows = []; // [number of the slider, its row on the page, whether it tells what becomes of the gradient]

function addSlider(group, k, tells) {
  const { name, low, high } = page.sliders[k];
  const row = document.createElement("label"),
    input = document.createElement("input");
  const part = (kind, className, textContent = "") =>
    Object.assign(document.createElement(kind), { className, textContent });
  row.className = "slider";
  Object.assign(input, { type: "range", min: low, max: high, step: "any" });
  input.setAttribute("aria-label", name);
  input.oninput = () => setSlider(k, Number(input.value));
  row.append(part("b", "", name), part("span", "now"), input);
  if (tells) row.append(part("span", "fate"));
  group.append(row);
  sliderRows.push([k, row, tells]);
}

function setSlider(k, value) {
  const { low, high } = page.sliders[k];
  now.sliders = now.sliders.with(k, Math.min(high, Math.max(low, value)));
  recompute();
  if (page.estimators?.length) forget();
  refresh();
}

function showSliders() {
  for (const [k, row, tells] of sliderRows) {
    const input = row.querySelector("input"),
      value = short(now.sliders[k]);
    if (Number(input.value) !== now.sliders[k]) input.value = now.sliders[k];
    row.querySelector(".now").textContent = value;
    const words = [value];
    if (tells) {
      const fate = row.querySelector(".fate"),
        i = page.sliders[k].boxes[shown()];
      const reached = i !== null && (graph().boxes[i].state === "cut" ? finished() : arrived(i));
      fate.textContent = i === null ? "not in this graph" : reached ? gradientOf(i) : "no gradient yet";
      fate.className = `fate ${reached ? graph().boxes[i].state : ""}`;
      words.push(fate.textContent);
    }
    input.setAttribute("aria-valuetext", words.join(", "));
  }
}

// ---------------------------------------------------------------- draws

/** Draw again, some number of times; the last draw is shown. */
function drawAgain(count) {
  for (let k = 0; k < count; k++) {
    now.noises = drawNoises(draws.uniform);
    if (page.estimators?.length) keepEstimates();
    draws.count++;
  }
  recompute();
  refresh();
}

function keepDrawing() {
  draws.running = !draws.running;
  document.querySelectorAll(".keep").forEach((button) => {
    button.setAttribute("aria-pressed", draws.running);
    button.textContent = draws.running ? "Stop" : "Keep drawing";
  });
  let frames = 0;
  const frame = () => {
    if (!draws.running) return;
    if (frames++ % 4 === 0) drawAgain(draws.count < 20 ? 1 : draws.count < 200 ? 10 : 50);
    if (draws.count >= MOST_DRAWS) return keepDrawing();
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

function addDrawButtons(group) {
  const button = (words, onclick, className = "") =>
    group.append(Object.assign(document.createElement("button"), { textContent: words, onclick, className }), " ");
  if (isLive) {
    button("Draw 1", () => drawAgain(1));
    button("Draw 100", () => drawAgain(100));
    button("Keep drawing", keepDrawing, "keep");
    group.querySelector(".keep").setAttribute("aria-pressed", "false");
  } else {
    const words = () => `Next draw (${now.draw + 1} of ${page.draws})`;
    button(words(), ({ target }) => {
      now.draw = (now.draw + 1) % page.draws;
      target.textContent = words();
      refresh();
    });
  }
}

// ---------------------------------------------------------------- the beginning

const isRandom = isLive ? page.noises.length > 0 : page.draws > 1;

recompute();
buildGraph();
page.sliders.forEach(({ boxes }, k) => {
  if (boxes) addSlider(get("sliders"), k, true);
});
if (page.gesture) buildGesture();
if (page.estimators?.length) buildWhy();
document.querySelectorAll(".draws").forEach((group) => {
  group.hidden = !isRandom;
  if (isRandom) addDrawButtons(group);
});
document.querySelectorAll(".reset").forEach((button) => {
  button.hidden = !button.closest("div[role=group], .side").querySelector(".slider");
  button.onclick = () => {
    now.sliders = page.sliders.map(({ row }) => recorded[row]);
    if (page.gesture) hold(gesture.hold);
    recompute();
    if (page.estimators?.length) forget();
    refresh();
  };
});
get("gesture").hidden = !page.gesture;
get("why").hidden = !page.estimators?.length;
get("play").hidden = !get("sliders").children.length && !isRandom;
get("computed").textContent = isLive
  ? "Computed by this page, with the derivatives that tinygrad_vae recorded."
  : `Looked up, from ${page.draws === 1 ? "what" : `${page.draws} draws that`} tinygrad_vae computed: the graph ` +
    `cannot be run here, since ${page.reason}.`;
if (location.protocol !== "file:") {
  document.querySelectorAll("footer a").forEach((link) => link.replaceWith(link.textContent)); // of files on a disk
}
refresh();
look();
new ResizeObserver(refresh).observe(get("picture"));
