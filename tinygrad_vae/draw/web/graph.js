// The graph, and backprop stepped over it from node to node, against the arrows.

const drawings = [...document.querySelectorAll("svg.graph")].map((svg) => ({
  svg,
  nodes: [...svg.querySelectorAll(".node")],
  arrows: [...svg.querySelectorAll(".arrow")],
  whole: svg.viewBox.baseVal && [0, 0, svg.viewBox.baseVal.width, svg.viewBox.baseVal.height],
}));
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const here = { graph: 0, open: false, step: 0, box: null, near: true };

const shown = () => here.graph + (here.open ? page.folded : 0);
const graph = () => page.graphs[shown()];
const finished = () => here.step === graph().steps.length;
const arrived = (i) => finished() || graph().steps.slice(0, here.step).includes(i);
const current = () => graph().steps[here.step - 1];
const isLast = () => here.graph === page.folded - 1;

/** What is written of the gradient in a box: nothing, before backprop has got there. */
function gradientOf(i) {
  const box = graph().boxes[i];
  return arrived(i) ? box.words.replace("{}", textAt(box.gradient, true)) : "";
}

// ---------------------------------------------------------------- what is shown

function showGraph() {
  drawings.forEach(({ svg }, k) => svg.toggleAttribute("hidden", k !== shown()));
  const { svg, nodes, arrows } = drawings[shown()];
  nodes.forEach((node, i) => {
    const box = graph().boxes[i];
    const value = [...node.querySelectorAll(".value")].at(-1);
    if (box.value !== null) value.textContent = box.before + textAt(box.value);
    const gradient = node.querySelector(".gradient");
    if (gradient) gradient.textContent = gradientOf(i);
    node.classList.toggle("waiting", !arrived(i));
    node.classList.toggle("current", i === current());
    node.classList.toggle("end", box.ends !== "" && arrived(i));
    const parts = [box.label, textAt(box.value), gradientOf(i)];
    if (opens(box)) parts.push("a layer, Enter opens it");
    node.setAttribute("aria-label", parts.filter(Boolean).join(", "));
    if (isLive) {
      node.dataset.value = dataOf(now.values[box.value] ?? "").join();
      node.dataset.gradient = arrived(i) ? dataOf(now.values[box.gradient] ?? "").join() : "";
    }
  });
  svg.querySelectorAll(".part, .back").forEach((mark) => mark.remove());
  graph().arrows.forEach((arrow, e) => {
    const passing = arrow.head === current() && arrow.part !== null;
    arrows[e].classList.toggle("waiting", !arrived(arrow.head));
    arrows[e].classList.toggle("passing", passing);
    arrows[e].classList.toggle("refused", arrow.head === current() && arrow.mark === "cut");
    if (passing) markBackwards(arrows[e], textAt(arrow.part, true));
  });
  showSentence();
  showAbout();
  get("layers").textContent = here.open ? "Fold the layers" : "Open the layers";
  get("near").textContent = here.near ? "Whole graph" : "Look closer";
  for (const id of ["first", "back"]) get(id).setAttribute("aria-disabled", here.step === 0);
  get("last").setAttribute("aria-disabled", finished());
  get("next").textContent = !finished() ? "Next →" : isLast() ? "Again ↺" : "Other graph →";
}

const NS = "http://www.w3.org/2000/svg";

function svgElement(name, attributes, text = "") {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

/** Put a head on the far end of an arrow, which points against it, and the number that is passed on in the middle. */
function markBackwards(arrow, number) {
  const line = arrow.querySelector(".line"),
    length = line.getTotalLength();
  const tip = line.getPointAtLength(1),
    from = line.getPointAtLength(Math.min(14, length)),
    middle = line.getPointAtLength(length / 2);
  const turned = (Math.atan2(tip.y - from.y, tip.x - from.x) * 180) / Math.PI;
  const head = svgElement("path", {
    class: "back",
    d: "M0,0 l-14,-7 v14 z",
    transform: `translate(${tip.x} ${tip.y}) rotate(${turned})`,
  });
  arrow.parentNode.append(head, svgElement("text", { class: "part", x: middle.x + 9, y: middle.y + 4 }, number));
}

const listed = (words) => (words.length < 2 ? words.join() : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);

/** What happens at this step, in words. */
function sentence() {
  const { boxes, arrows, steps } = graph();
  if (!steps.length) return "No gradient is asked for.";
  if (here.step === 0) {
    const cost = boxes[steps[0]];
    if (boxes.some(({ label }) => label.endsWith("(pathwise)"))) {
      return "The same draw, but now it is computed from noise, inside the graph. Which parameters will hear of it?";
    }
    return (
      `Along the arrows, the cost was computed${textAt(cost.value) ? `: ${textAt(cost.value)}` : ""}. Backprop goes ` +
      "against them, and asks how much each node moves the cost. Which parameters will hear of it?"
    );
  }
  const box = boxes[current()],
    number = textAt(box.gradient, true);
  const into = arrows.filter((arrow) => arrow.head === current());
  const cut = [...new Set(into.filter((arrow) => arrow.mark === "cut").map((arrow) => boxes[arrow.tail].label))];
  const passed = into
    .filter((arrow) => arrow.part !== null)
    .map((arrow) => `${textAt(arrow.part, true)} to ${boxes[arrow.tail].label}`);
  const words = [`${box.label}: ${number ? `a gradient of ${number}` : "the gradient"} has arrived.`];
  if (here.step === 1) words.push("Here backprop begins.");
  if (box.ends) words.push(`Here backprop stops: ${box.ends}.`);
  if (cut.length) words.push(`Nothing goes back to ${listed(cut)}.`);
  if (passed.length) words.push(`It passes on ${listed(passed)}.`);
  if (finished() && number && boxes.every(({ state }) => state === "" || state === "open"))
    words.push("Now every parameter has its gradient.");
  return words.join(" ");
}

function showSentence() {
  const says = get("says"),
    words = sentence();
  says.classList.toggle("end", here.step > 0 && graph().boxes[current()].ends !== "");
  says.setAttribute("aria-live", draws.running ? "off" : "polite");
  if (says.textContent !== words) says.textContent = words;
}

function showAbout() {
  const i = here.box ?? current() ?? graph().boxes.length - 1,
    box = graph().boxes[i];
  const line = (kind, text) => Object.assign(document.createElement(kind), { textContent: text });
  const list = document.createElement("dl");
  if (box.value !== null) list.append(line("dt", "value"), line("dd", textAt(box.value)));
  if (box.gradient !== null && arrived(i)) list.append(line("dt", "gradient"), line("dd", textAt(box.gradient, true)));
  get("about").replaceChildren(
    line("h3", box.label),
    list,
    line("p", box.detail),
    ...[...box.formulas, ...box.source].map((text) => line("code", text)),
  );
}

// ---------------------------------------------------------------- where it is looked at

/** Return the part of a drawing to show: all of it or, where that would be too small, what is around a node. */
function wantedView() {
  const { svg, nodes, whole } = drawings[shown()],
    [, , width, height] = whole;
  const fitted = Math.min(svg.clientWidth / width, svg.clientHeight / height),
    readable = 0.8;
  const tooSmall = fitted < 0.62;
  get("near").hidden = !tooSmall || here.step === 0;
  if (!tooSmall || here.step === 0 || !here.near) return whole;
  const scale = Math.max(fitted, Math.min(readable, Math.max(svg.clientWidth / width, 0.7)));
  const node = nodes[current()].getBBox(),
    w = svg.clientWidth / scale,
    h = svg.clientHeight / scale;
  const clamp = (centre, span, all) =>
    span >= all ? (all - span) / 2 : Math.max(0, Math.min(centre - span / 2, all - span));
  return [
    clamp(node.x + node.width / 2 + MARGIN, w, width),
    clamp(node.y + node.height / 2 + MARGIN - h / 8, h, height),
    w,
    h,
  ];
}

const MARGIN = 16; // of the drawing inside its frame

let moving = 0;

function look() {
  const { svg } = drawings[shown()],
    to = wantedView();
  const from = (svg.getAttribute("viewBox") ?? "0 0 1 1").split(" ").map(Number),
    began = performance.now();
  cancelAnimationFrame(moving);
  const set = (part) =>
    svg.setAttribute("viewBox", to.map((x, k) => (from[k] + (x - from[k]) * part).toFixed(1)).join(" "));
  if (calm.matches || from.every((x, k) => Math.abs(x - to[k]) < 0.1)) return set(1);
  const frame = (time) => {
    const part = Math.min(1, Math.max(0, (time - began) / 350));
    set(part * part * (3 - 2 * part));
    if (part < 1) moving = requestAnimationFrame(frame);
  };
  moving = requestAnimationFrame(frame);
}

/** Bring the node in question into the window. */
function scrollToNode() {
  const picture = get("picture").getBoundingClientRect();
  const bar = get("bar"),
    stuck = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
  const node = drawings[shown()].nodes[current() ?? 0].getBoundingClientRect();
  const room = innerHeight - stuck;
  if (picture.height <= room) {
    if (picture.top < stuck - 1) scrollBy({ top: picture.top - stuck - 8, behavior: "auto" });
    else if (picture.bottom > innerHeight + 1) scrollBy({ top: picture.bottom - innerHeight + 8, behavior: "auto" });
  } else if (node.top < stuck) scrollBy({ top: node.top - stuck - 16, behavior: "auto" });
  else if (node.bottom > innerHeight) scrollBy({ top: node.bottom - innerHeight + 16, behavior: "auto" });
}

/** Let a dot run along each arrow at the node in question, against it: to its far end, or as far as the cut. */
function sendBack() {
  document.querySelectorAll(".pulse").forEach((dot) => dot.remove());
  if (calm.matches || here.step === 0) return;
  const { arrows } = drawings[shown()];
  graph().arrows.forEach((arrow, e) => {
    const cut = arrow.mark === "cut";
    if (arrow.head !== current() || (arrow.part === null && !cut)) return;
    const line = arrows[e].querySelector(".line"),
      length = line.getTotalLength(),
      sign = arrows[e].querySelector(".sign");
    const end = cut && sign ? nearest(line, length, sign.getBBox()) : 0,
      began = performance.now();
    const dot = svgElement("circle", { class: cut ? "pulse cut" : "pulse", r: 6 });
    arrows[e].parentNode.append(dot);
    const frame = (time) => {
      const part = Math.min(1, Math.max(0, (time - began) / 800));
      const { x, y } = line.getPointAtLength(length + (end - length) * part);
      dot.setAttribute("cx", x);
      dot.setAttribute("cy", y);
      if (!dot.isConnected) return;
      if (part < 1) requestAnimationFrame(frame);
      else dot.remove();
    };
    requestAnimationFrame(frame);
  });
}

function nearest(line, length, box) {
  const x = box.x + box.width / 2,
    y = box.y + box.height / 2;
  let best = 0,
    least = Infinity;
  for (let at = 0; at <= length; at += 3) {
    const point = line.getPointAtLength(at),
      distance = Math.hypot(point.x - x, point.y - y);
    if (distance < least) [best, least] = [at, distance];
  }
  return best;
}

// ---------------------------------------------------------------- what the reader does

const opens = (box) => box.layer && page.graphs.length > page.folded;

function stepTo(step) {
  here.step = Math.max(0, Math.min(step, graph().steps.length));
  here.box = null;
  refresh();
  look();
  scrollToNode();
  sendBack();
}

function next() {
  if (!finished()) stepTo(here.step + 1);
  else if (isLast()) stepTo(0);
  else switchTo({ graph: here.graph + 1 });
}

function switchTo(change) {
  const all = finished() && !("graph" in change);
  Object.assign(here, change);
  get("graphs")
    .querySelectorAll("input")
    .forEach((input, k) => {
      input.checked = k === here.graph;
    });
  drawings[shown()].svg.setAttribute("viewBox", drawings[shown()].whole.join(" "));
  stepTo(all ? graph().steps.length : 0);
}

function toggleLayers() {
  switchTo({ open: !here.open });
  get("layers").focus();
}

function buildGraph() {
  page.graphs.slice(0, page.folded).forEach(({ heading }, k) => {
    get("graphs").append(choice("graph", heading, k === 0, () => switchTo({ graph: k })));
  });
  drawings.forEach(({ nodes }) =>
    nodes.forEach((node, i) => {
      node.querySelector("title").remove();
      node.setAttribute("tabindex", "0");
      node.setAttribute("role", "img");
      for (const event of ["mouseenter", "focus", "click"]) {
        node.addEventListener(event, () => {
          here.box = i;
          showAbout();
        });
      }
      for (const event of ["dblclick", "keydown"]) {
        node.addEventListener(event, (happened) => {
          if ((event === "keydown" && happened.key !== "Enter") || !opens(graph().boxes[i])) return;
          happened.preventDefault(); // or the button, in focus by then, would hear of the same key
          toggleLayers();
        });
      }
    }),
  );
  get("layers").onclick = toggleLayers;
  get("near").onclick = () => {
    here.near = !here.near;
    refresh();
    look();
  };
  get("first").onclick = () => stepTo(0);
  get("back").onclick = () => stepTo(here.step - 1);
  get("next").onclick = next;
  get("last").onclick = () => stepTo(Infinity);
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input") || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowRight") next();
    else if (event.key === "ArrowLeft") stepTo(here.step - 1);
    else return;
    event.preventDefault();
  });
  get("graphs").hidden = page.folded === 1;
  get("layers").hidden = page.graphs.length === page.folded;
  addEventListener("resize", look);
}
