// Why it matters: what each estimator finds over many draws, and where it leads.

const ESTIMATORS = {
  cut: ["cut", (z) => `cut: ${z} taken for a constant`],
  reparameterize: ["open", () => "pathwise: hold the noise"],
  score_function: ["open", () => "score function: hold the draw"],
};
const MOST_DRAWS = 20000,
  BINS = 61,
  STEPS = 400;

const why = { asked: 0, truth: null, error: 0, range: null, found: [], average: null, search: 0 };
const balls = { at: [], step: 0, running: false };
const draws = { count: 0, running: false, uniform: uniforms(1) };

/** The number of the slider of the gradient in question, or null where it is an element of an array. */
const slider = () => page.asked[why.asked].slider;

function buildWhy() {
  why.run = runner(page.estimators.flatMap(({ gradients }) => gradients));
  page.asked.forEach(({ name }, k) => {
    get("wrt").append(
      choice("wrt", name, k === 0, () => {
        why.asked = k;
        forget();
        refresh();
      }),
    );
  });
  const others = page.estimators
    .slice(1)
    .map(({ name }) => ({ reparameterize: "noise", score_function: "draw" })[name]);
  get("why-lead").textContent =
    "Many programs take the draw for a constant and carry on: that is the cut gradient. " +
    (others.length > 1
      ? "The other two hold the noise, or the draw. Which are right on average, which needs the fewest draws, " +
        "and where do they lead?"
      : `The other one holds the ${others[0]}. Which is right on average?`);
  get("roll").onclick = () => (balls.running ? stopBalls() : roll());
  get("put-back").onclick = () => {
    stopBalls();
    putBack();
    showHill();
  };
  forget();
}

/** Begin anew: another gradient is looked at, or the parameters have moved. */
function forget() {
  why.found = page.estimators.map(() => []);
  why.truth = why.range = why.average = null;
  why.search++;
  draws.count = 0;
  stopBalls();
  putBack();
}

const elementOf = (x) => (typeof x === "object" ? x.data[page.asked[why.asked].place] : x);

/** Return what the estimators find for the gradient in question, with these sliders and noises. */
function estimates(sliders, noises) {
  const values = why.run(leaves(sliders, noises));
  return page.estimators.map(({ gradients }) => elementOf(values[gradients[why.asked]]));
}

function keepEstimates() {
  if (!page.estimators?.length || !now.inside || why.found[0].length >= MOST_DRAWS) return;
  estimates(now.sliders, now.noises).forEach((g, k) => why.found[k].push(g));
}

/** Find the range of the histograms and the truth, once for each place of the sliders. */
function prepare() {
  if (why.range !== null) return;
  const row = page.estimators[1].gradients[why.asked],
    isArray = slider() === null;
  if (isArray) searchTruth(row);
  else [why.truth, why.error] = [averages([row], now.sliders)[0], 0];
  const uniform = uniforms(3),
    pilot = Array.from({ length: isArray ? 100 : 400 }, () => estimates(now.sliders, drawNoises(uniform)));
  const part = (k, share) => pilot.map((row) => row[k]).sort((a, b) => a - b)[Math.floor(share * pilot.length)];
  const ends = page.estimators.map((_, k) => [part(k, 0.02), part(k, 0.98)]),
    [cut, path, score] = ends;
  const middle = (path[0] + path[1]) / 2,
    wide = 4 * (path[1] - path[0]) || Infinity; // the narrow bell is to be seen
  const known = [...cut, ...path, ...(why.truth === null ? [] : [why.truth])];
  const low = Math.min(...known, Math.max(score?.[0] ?? Infinity, middle - wide));
  const high = Math.max(...known, Math.min(score?.[1] ?? -Infinity, middle + wide)),
    pad = 0.08 * (high - low) || 1;
  why.range = [low - pad, high + pad];
}

/** Where no grid is fine enough, average over many draws, a few at a time. */
function searchTruth(row) {
  const run = runner([row]),
    uniform = uniforms(99),
    search = why.search,
    found = [];
  const some = () => {
    if (search !== why.search) return;
    for (let k = 0; k < 25; k++) found.push(elementOf(run(leaves(now.sliders, drawNoises(uniform)))[row]));
    if (found.length < 2000) return setTimeout(some);
    why.truth = meanOf(found);
    why.error = spreadOf(found, why.truth) / Math.sqrt(found.length);
    showHistograms();
  };
  setTimeout(some);
}

/** How a text at x is set, so that it does not leave the picture. */
const anchored = (x, width) => (x < 70 ? "start" : x > width - 70 ? "end" : "middle");

const meanOf = (numbers) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;

/** The standard deviation of numbers, and 0 where they differ by rounding only. */
function spreadOf(numbers, mean) {
  const spread = Math.sqrt(numbers.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (numbers.length - 1));
  return spread > 1e-12 * Math.abs(mean) ? spread : 0;
}

function showHistograms() {
  prepare();
  const svg = get("spread"),
    [width, height] = [svg.clientWidth, svg.clientHeight],
    [low, high] = why.range,
    px = (x) => ((x - low) / (high - low)) * width;
  const floor = height - 26,
    top = 22,
    tall = (floor - top) / page.estimators.length;
  const rows = page.estimators.map((estimator, k) =>
    histogram(estimator, why.found[k], top + k * tall, tall, px, width),
  );
  const truth = why.truth === null ? [] : truthMarks(px(why.truth), top, floor, width);
  svg.replaceChildren(
    ...rows.flatMap(({ bars }) => bars),
    ...truth,
    ...rows.flatMap(({ words }) => words),
    ...ticks(low, high, px, width, height),
  );
  const words = histogramWords();
  svg.setAttribute("aria-label", words);
  svg.dataset.truth = why.truth ?? "";
  if (get("spread-says").textContent !== words) get("spread-says").textContent = words;
  get("count").textContent = `${draws.count} draw${draws.count === 1 ? "" : "s"}`;
}

/** Return the bars of one estimator with a triangle at their average, and the words above them. */
function histogram({ name }, found, top, tall, px, width) {
  const [state, called] = ESTIMATORS[name],
    base = top + tall - 4,
    wide = width / BINS;
  const bins = new Array(BINS).fill(0);
  for (const g of found) {
    const k = Math.floor(px(g) / wide);
    if (k >= 0 && k < BINS) bins[k]++;
  }
  const unit = (tall - 46) / Math.max(...bins, 1);
  const bars = bins.map((n, k) => {
    const size = { x: k * wide + 0.5, y: base - n * unit, width: Math.max(1, wide - 1), height: n * unit };
    return svgElement("rect", { class: `bar ${name} ${state}`, ...size });
  });
  bars.push(svgElement("path", { class: "axis", d: `M0,${base + 0.5}H${width}` }));
  const narrow = width < 480,
    title = narrow ? nameOf({ name }) : called(page.draw);
  const words = [svgElement("text", { class: `row-name start ${state}`, x: 2, y: top + 16 }, title)];
  if (found.length > 1) {
    const mean = meanOf(found),
      outside = found.length - bins.reduce((sum, n) => sum + n, 0),
      more = outside && !narrow ? `, ${outside} outside` : "",
      told = `mean ${short(mean, 3)}, spread ${short(spreadOf(found, mean), 3)}${more}`;
    bars.push(svgElement("path", { class: `mean ${state}`, d: `M${px(mean) - 6},${base + 9}l6,-8 6,8z` }));
    words.push(svgElement("text", { class: "row-number end", x: width - 2, y: top + 16 }, told));
  }
  return { bars, words };
}

const truthMarks = (x, top, floor, width) => [
  svgElement("path", { class: "truth", d: `M${x},${top - 4}V${floor}` }),
  svgElement("text", { class: `truth-name ${anchored(x, width)}`, x, y: 13 }, `truth ${short(why.truth, 3)}`),
];

const nameOf = ({ name }) => ESTIMATORS[name][1](page.draw).split(":")[0];

function histogramWords() {
  const { name } = page.asked[why.asked],
    count = why.found[0].length;
  if (count < 2) {
    return (
      `Each draw gives each estimator one guess at the gradient in ${name}. The line is the truth: the gradient of ` +
      "the average cost. Draw, and see where the guesses fall."
    );
  }
  const words = [`Guesses at the gradient in ${name} from ${count} draws; a triangle marks each average.`];
  if (count < 100 || why.truth === null) return words[0];
  const [cut, path, score] = page.estimators.map((estimator, k) => {
    const mean = meanOf(why.found[k]),
      spread = spreadOf(why.found[k], mean),
      error = Math.hypot(spread / Math.sqrt(count), why.error);
    return { mean, spread, isOff: Math.abs(mean - why.truth) > 5 * error + 1e-6 * Math.abs(why.truth) };
  });
  if (cut.isOff) {
    words.push(
      `The cut gradient is wrong, and more draws do not mend it: ${short(cut.mean, 3)} for ${short(why.truth, 3)}.`,
    );
  }
  if (path.isOff || score?.isOff) {
    words.push("The average of the others rests on a few rare draws here: it needs many more than these.");
  } else if (score && score.spread > 1.2 * path.spread) {
    const ratio = score.spread / path.spread;
    words.push(
      `Both others are right on average. The score function is spread ${ratio.toPrecision(2)} times as widely, so it ` +
        `needs about ${short(Number((ratio * ratio).toPrecision(2)))} times as many draws.`,
    );
  }
  return words.join(" ");
}

// ---------------------------------------------------------------- the balls

function putBack() {
  balls.at = page.estimators.map(() => now.sliders[slider()]);
  balls.step = 0;
}

function stopBalls() {
  balls.running = false;
  get("roll").textContent = balls.step && balls.step < STEPS ? "Roll on" : "Let them roll";
}

/** The average cost along the slider in question, and how long a step may be. */
function hill() {
  if (why.average) return why.average;
  const { low, high } = page.sliders[slider()],
    count = 61;
  const at = Array.from({ length: count }, (_, k) => low + ((high - low) * k) / (count - 1));
  const cost = at.map((x) => averages([page.estimators[0].cost], now.sliders.with(slider(), x))[0]);
  const gap = at[1] - at[0];
  const bend = Math.max(...cost.slice(1, -1).map((c, k) => Math.abs(cost[k] - 2 * c + cost[k + 2]) / gap ** 2));
  const slope = Math.abs(cost.at(-1) - cost[0]) / (high - low);
  why.average = { at, cost, rate: Math.min(0.08 / bend, (0.02 * (high - low)) / (slope + 1e-9)), low, high };
  if (!Number.isFinite(why.average.rate)) why.average.rate = 0;
  return why.average;
}

function costAt(x) {
  const { at, cost, low, high } = hill(),
    place = ((x - low) / (high - low)) * (at.length - 1),
    k = Math.min(at.length - 2, Math.floor(place));
  return cost[k] + (cost[k + 1] - cost[k]) * (place - k);
}

function stepBalls() {
  const { rate, low, high } = hill(),
    noises = drawNoises(draws.uniform),
    pace = rate / (1 + balls.step / 100);
  balls.at = balls.at.map((x, k) => {
    const g = estimates(now.sliders.with(slider(), x), noises)[k];
    return Math.min(high, Math.max(low, x - pace * (Number.isFinite(g) ? g : 0)));
  });
  balls.step++;
}

function roll() {
  if (balls.step >= STEPS) putBack();
  if (calm.matches) {
    while (balls.step < STEPS) stepBalls();
    stopBalls();
    return showHill();
  }
  balls.running = true;
  get("roll").textContent = "Pause";
  const frame = () => {
    if (!balls.running) return;
    stepBalls();
    if (balls.step >= STEPS) stopBalls();
    showHill();
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

function showHill() {
  get("hill").toggleAttribute("hidden", slider() === null);
  get("hill-side").hidden = slider() === null;
  if (slider() === null) return;
  const { at, cost, low, high } = hill(),
    svg = get("hill"),
    width = svg.clientWidth,
    height = svg.clientHeight,
    floor = height - 26;
  const least = Math.min(...cost),
    most = Math.max(...cost),
    inset = 14;
  const px = (x) => inset + ((x - low) / (high - low)) * (width - 2 * inset);
  const py = (c) => floor - 12 - ((c - least) / (most - least || 1)) * (floor - 40);
  const best = at[cost.indexOf(least)];
  const marks = balls.at.flatMap((x, k) => {
    const { name } = page.estimators[k],
      [state] = ESTIMATORS[name],
      y = py(costAt(x)) - 8 - (balls.step ? 0 : 17 * k);
    const word = nameOf(page.estimators[k]);
    const label = balls.step
      ? [
          svgElement(
            "text",
            { class: `ball-name ${state} ${anchored(px(x), width)}`, x: px(x), y: y - 13 - 15 * labelRow(k) },
            word,
          ),
        ]
      : [];
    return [...label, svgElement("circle", { class: `ball ${name} ${state}`, cx: px(x), cy: y, r: 8 })];
  });
  svg.replaceChildren(
    svgElement("path", {
      class: "curve",
      d: at.map((x, k) => `${k ? "L" : "M"}${px(x).toFixed(1)},${py(cost[k]).toFixed(1)}`).join(""),
    }),
    svgElement("path", { class: "axis", d: `M0,${floor + 0.5}H${width}` }),
    svgElement("path", { class: "truth", d: `M${px(best)},${py(least)}V${floor}` }),
    ...ticks(low, high, px, width, height),
    svgElement("text", { class: "tick name end", x: width - 8, y: floor - 6 }, page.sliders[slider()].name),
    svgElement("text", { class: "tick start", x: 2, y: 14 }, "average cost"),
    ...marks,
  );
  const words = hillWords(best);
  svg.setAttribute("aria-label", words);
  if (!balls.running) get("hill-says").textContent = words;
}

/** The height of a label: above those of the balls before it that stand nearby. */
function labelRow(k) {
  const { low, high } = hill(),
    near = (high - low) * 0.16;
  return balls.at.slice(0, k).filter((x) => Math.abs(x - balls.at[k]) < near).length;
}

function hillWords(best) {
  const name = page.sliders[slider()].name;
  if (!balls.step) {
    return (
      `The curve is the average cost for each ${name}; the line marks where it is lowest. The balls ` +
      `start at ${short(now.sliders[slider()])}. ` +
      "Each follows its own estimates, one draw a step."
    );
  }
  const parts = balls.at.map((x, k) => `${nameOf(page.estimators[k])} at ${short(x, 3)} (cost ${short(costAt(x), 3)})`);
  return `After ${balls.step} steps: ${parts.join(", ")}. The average cost is lowest at ${name} = ${short(best)}.`;
}
