// The trick in one gesture: fifty draws under their curve, which moves while the noise, or the draws, are held.

const gesture = { hold: "noise", reference: [], dots: [], x: [0, 1], top: 1 };
const DOTS = 50,
  POINTS = 161;

/** Return the draws that belong to the noises of the dots, for these sliders. */
function drawsAt(sliders) {
  const { noise, z } = page.gesture,
    run = gesture.runDraw,
    values = leaves(sliders, now.noises);
  return gesture.dots.map((dot) => {
    values[noise] = dot.noise;
    return run(values)[z];
  });
}

/** Return the density at some places, for these sliders. */
function densityAt(places, sliders) {
  const {
      x,
      density,
      support: [low, high],
    } = page.gesture,
    values = leaves(sliders, now.noises);
  return places.map((place) => {
    if (place < (low ?? -Infinity) || place > (high ?? Infinity)) return 0;
    values[x] = place;
    const p = Math.exp(gesture.runDensity(values)[density]);
    return Number.isFinite(p) ? p : 0;
  });
}

function numberAt(row) {
  return row === undefined ? NaN : now.values[row];
}

function buildGesture() {
  const told = page.gesture;
  gesture.runDraw = runner([told.z]);
  gesture.runDensity = runner([told.density]);
  const uniform = uniforms(2),
    distribution = DISTRIBUTIONS[told.distribution];
  for (let k = 0; k < DOTS / 2; k++) {
    const noise = distribution.draw(uniform);
    for (const e of [noise, distribution.mirror(noise)]) gesture.dots.push({ noise: e, height: 0.08 + 0.84 * uniform() });
  }
  gesture.dots[0].noise = recorded[told.noise];
  hold("noise");

  const seen = told.sliders
    .flatMap((k) => ["low", "high"].map((end) => now.sliders.with(k, page.sliders[k][end])))
    .flatMap(drawsAt)
    .sort((a, b) => a - b);
  const [low, high] = [seen[Math.floor(0.05 * seen.length)], seen[Math.floor(0.95 * seen.length)]];
  gesture.x = [low - 0.06 * (high - low), high + 0.06 * (high - low)];
  gesture.top = 1.5 * Math.max(...densityAt(places(), now.sliders));

  for (const [name, words] of [
    ["noise", "Hold the noise"],
    ["draw", "Hold the draw"],
  ]) {
    get("hold").append(
      choice("hold", words, name === "noise", () => {
        hold(name);
        refresh();
      }),
    );
  }
  const names = listed(told.sliders.map((k) => page.sliders[k].name));
  const one = told.count > 1 ? `${told.count} numbers ${told.name} are drawn in the graph below. Take one: ` : "";
  get("lead").textContent =
    `${one}${told.name} is drawn from ${told.dist}, and a cost is computed from it. To lower the cost, we ` +
    `need its derivative in ${names}. So backprop asks how ${told.name} changes with them. A number out of a random ` +
    "number generator has no answer, until you say what is held while they move. There are two choices. Try both.";
  told.sliders.forEach((k) => addSlider(get("gesture-sliders"), k, false));
  letDrag();
}

/** From now on hold the noise, or the draws as they are. */
function hold(what) {
  gesture.hold = what;
  gesture.reference = [...now.sliders];
}

const places = () =>
  Array.from({ length: POINTS }, (_, k) => gesture.x[0] + ((gesture.x[1] - gesture.x[0]) * k) / (POINTS - 1));

function showGesture() {
  const svg = get("bell"),
    width = svg.clientWidth,
    height = svg.clientHeight,
    floor = height - 26;
  const at = places(),
    ghost = densityAt(at, gesture.reference),
    curve = densityAt(at, now.sliders);
  const top = Math.max(gesture.top, 1.08 * Math.max(...curve));
  const [low, high] = gesture.x;
  const px = (x) => ((x - low) / (high - low)) * width,
    py = (p) => floor - (p / top) * (floor - 12);
  const path = (heights) =>
    heights.map((p, k) => `${k ? "L" : "M"}${px(at[k]).toFixed(1)},${py(p).toFixed(1)}`).join("");
  const moved = now.sliders.some((x, k) => x !== gesture.reference[k]);

  const before = drawsAt(gesture.reference),
    after = gesture.hold === "noise" ? drawsAt(now.sliders) : before;
  const pBefore = densityAt(before, gesture.reference),
    pNow = densityAt(after, now.sliders);
  const marks = [],
    trails = [];
  gesture.dots.forEach((dot, k) => {
    const held = gesture.hold === "draw",
      p = held ? pBefore[k] : pNow[k];
    const size = held ? Math.sqrt(pNow[k] / pBefore[k]) : 1,
      r = Math.max(0.7, Math.min(15, 4.5 * size));
    const place = {
      cx: px(after[k]).toFixed(1),
      cy: py(dot.height * p).toFixed(1),
      r: r.toFixed(2),
      class: k ? "dot" : "dot own",
    };
    if (!held && moved) {
      trails.push(`M${px(before[k]).toFixed(1)},${py(dot.height * pBefore[k]).toFixed(1)} L${place.cx},${place.cy}`);
    }
    marks.push(svgElement("circle", place));
  });
  marks.push(marks.shift());
  svg.replaceChildren(
    svgElement("path", { class: "area", d: `${path(curve)}L${width},${floor}L0,${floor}z` }),
    svgElement("path", { class: "ghost", d: moved ? path(ghost) : "" }),
    svgElement("path", { class: "curve", d: path(curve) }),
    svgElement("path", { class: "axis", d: `M0,${floor + 0.5}H${width}` }),
    ...ticks(low, high, px, width, height),
    svgElement("text", { class: "tick name end", x: width - 8, y: floor - 6 }, page.gesture.name),
    svgElement("path", { class: "trail", d: trails.join("") }),
    ...marks,
    ...handles(px, py, width),
  );
  svg.setAttribute("aria-label", `${page.gesture.dist} and fifty draws from it. ${gestureWords()}`);
  get("bell-says").textContent = gestureWords();
}

/** The grips on the curve: its middle for the location, its shoulder for the scale. */
function handles(px, py, width) {
  const { loc, scale } = page.gesture;
  if (!loc) return [];
  const at = numberAt(loc.row),
    side = at + numberAt(scale.row),
    [pAt, pSide] = densityAt([at, side], now.sliders);
  const made = [];
  const grip = (x, y, part, word) => {
    if (part.slider === null) return;
    const name = page.sliders[part.slider].name;
    const left = px(x) > width - 90;
    made.push(
      svgElement("circle", { class: "grip", cx: px(x), cy: y, r: 9, "data-part": word }),
      svgElement("path", {
        class: "grip-sign",
        d: `M${px(x) - 2},${y - 3.5}l-3.5,3.5 3.5,3.5M${px(x) + 2},${y - 3.5}l3.5,3.5 -3.5,3.5`,
      }),
      svgElement(
        "text",
        { class: `grip-name ${left ? "end" : "start"}`, x: px(x) + (left ? -15 : 15), y: y + 5 },
        name,
      ),
    );
  };
  grip(at, py(pAt), loc, "loc");
  grip(side, py(pSide), scale, "scale");
  return made;
}

function letDrag() {
  const svg = get("bell"),
    { loc, scale } = page.gesture;
  if (!loc) return;
  let dragged = null;
  const perPixel = () => (gesture.x[1] - gesture.x[0]) / svg.clientWidth;
  svg.addEventListener("pointerdown", (event) => {
    const word = event.target.dataset.part ?? (loc.slider !== null ? "loc" : "scale");
    const part = { loc, scale }[word];
    if (part.slider === null) return;
    dragged = { slider: part.slider, from: event.clientX, value: now.sliders[part.slider] };
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (dragged) setSlider(dragged.slider, dragged.value + (event.clientX - dragged.from) * perPixel());
  });
  for (const event of ["pointerup", "pointercancel"])
    svg.addEventListener(event, () => {
      dragged = null;
    });
}

/** What is seen, in words. */
function gestureWords() {
  const { name, normal, loc, scale, sliders } = page.gesture;
  const own = gesture.dots[0],
    before = drawsAt(gesture.reference)[0];
  const [mu, sigma] = [loc, scale].map((part) => page.sliders[part?.slider]?.name);
  const names = listed(sliders.map((k) => page.sliders[k].name)),
    move = mu || sigma ? "Drag the curve." : "Move a slider.";
  if (gesture.hold === "noise") {
    const formula =
      normal && mu && sigma
        ? `Each dot is ${name} = ${mu} + ${sigma} × noise, so d${name}/d${mu} = 1 and d${name}/d${sigma} = noise.`
        : `Each dot is a function of its noise and ${names}, with a derivative.`;
    return (
      `${move} The noise of every dot is held, so the dots ride along. ${formula} This is the reparameterization ` +
      `trick. The dark dot has noise ${short(own.noise)} and stands at ${short(drawsAt(now.sliders)[0])}.`
    );
  }
  const [was] = densityAt([before], gesture.reference),
    [is] = densityAt([before], now.sliders);
  return (
    `${move} The dots stay where they were drawn, and each becomes more or less probable: that is its size. So its ` +
    "probability has a derivative, and its place needs none. This is the score function, or REINFORCE. The dark dot " +
    `stays at ${short(before)}; its density was ${short(was)} and is ${short(is)}.`
  );
}

/** Round numbers along the bottom of a picture, about a hundred pixels apart. */
function ticks(low, high, px, width, height) {
  const rough = (high - low) / Math.max(3, Math.floor(width / 110)),
    power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const at = [];
  for (let k = Math.ceil((low + step * 0.15) / step); k * step <= high - step * 0.15; k++) at.push(k * step);
  return at.map((x) => svgElement("text", { class: "tick middle", x: px(x), y: height - 8 }, short(x)));
}
