// The numbers of the page: its program, run for any parameters and any noise.

const page = JSON.parse(document.getElementById("data").textContent);
const isLive = page.rows !== undefined;

/** Return a function that computes rows of the program in an array of values whose leaves are set. */
function runner(wanted) {
  const needed = new Set(),
    rest = [...wanted];
  while (rest.length) {
    const row = rest.pop();
    if (needed.has(row)) continue;
    needed.add(row);
    if (page.rows[row][0] !== "=") rest.push(...page.rows[row].slice(1).filter(Number.isInteger));
  }
  const calls = [...needed]
    .sort((a, b) => a - b)
    .filter((row) => page.rows[row][0] !== "=")
    .map(callOf);
  return (values) => {
    for (const call of calls) call(values);
    return values;
  };
}

/** Return a function that computes one row from the values of those before it. */
function callOf(row) {
  const [name, ...told] = page.rows[row],
    inputs = told.filter(Number.isInteger),
    attributes = told.at(inputs.length);
  const onArrays = attributes ? ARRAY_OPS[name] : null;
  if (onArrays)
    return (values) => {
      values[row] = onArrays(...inputs.map((k) => values[k]), attributes);
    };
  const op = OPS[name],
    [a, b, c, d] = inputs;
  return (values) => {
    values[row] = inputs.some((k) => typeof values[k] === "object")
      ? elementwise(
          op,
          inputs.map((k) => values[k]),
        )
      : op(values[a], values[b], values[c], values[d]);
  };
}

/** The leaves as they were recorded: numbers, truth values, arrays, and texts for what JSON cannot say. */
const recorded = (page.rows ?? []).map(([op, x]) => {
  if (op !== "=") return undefined;
  if (typeof x === "object") return made(x.shape, Float64Array.from(x.data, Number));
  return typeof x === "string" ? Number(x) : x;
});

/** Where the reader is: the value of each slider and each noise, and all numbers that follow from them. */
const now = {
  sliders: page.sliders.map(({ row }) => recorded[row]),
  noises: (page.noises ?? []).map(({ row }) => recorded[row]),
  values: [...recorded],
  inside: true, // all parameters lie in their domains
  draw: 0, // of those that are looked up
};

/** Return fresh values with these sliders and noises. */
function leaves(sliders, noises) {
  const values = [...recorded];
  page.sliders.forEach(({ row }, k) => {
    values[row] = sliders[k];
  });
  page.noises.forEach(({ row }, k) => {
    values[row] = noises[k];
  });
  return values;
}

const computeAll = isLive ? runner(page.rows.keys()) : null;

function recompute() {
  if (!isLive) return;
  now.values = computeAll(leaves(now.sliders, now.noises));
  now.inside = page.conditions.every((row) => dataOf(now.values[row]).every(Number.isFinite));
}

/** The number that stands somewhere, in short: computed, or looked up where the page cannot compute it. */
function textAt(place, isGradient = false) {
  if (place === null || place === undefined) return "";
  if (!isLive) return place[now.draw];
  if (!now.inside) return "–";
  const x = now.values[place];
  if (typeof x !== "object") return short(x);
  if (isGradient) return `norm ${short(Math.hypot(...x.data), 3)}`;
  const total = x.data.reduce((sum, y) => sum + y, 0),
    isFull = x.data.length > 1 && x.data.every((y) => y === x.data[0]);
  return isFull ? `all ${short(x.data[0], 3)}` : `mean ${short(total / x.data.length, 3)}`;
}

/** A number with a few digits, as Python's format ".4g" writes it. */
function short(x, digits = 4) {
  if (typeof x === "boolean") return x ? "True" : "False";
  if (!Number.isFinite(x)) return String(x).replace("Infinity", "inf").replace("NaN", "nan");
  if (x === 0) return "0";
  const [leading, power] = x
    .toExponential(digits - 1)
    .split("e")
    .map(Number);
  if (power >= -4 && power < digits) return String(Number(x.toPrecision(digits)));
  return `${leading}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

// ---------------------------------------------------------------- noise

/** Return a generator of uniform numbers between 0 and 1, both excluded: sfc32, Doty-Humphrey 2010. */
function uniforms(seed) {
  let [a, b, c, d] = [0, seed | 0, 0x9e3779b9, 1];
  const bits = () => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    return t >>> 0;
  };
  for (let k = 0; k < 12; k++) bits();
  return () => (bits() * 2 ** 20 + (bits() >>> 12) + 0.5) / 2 ** 52;
}

/** How to draw each noise, its mirror image, and points with weights that stand for it in an average. */
const DISTRIBUTIONS = {
  "N(0, 1)": {
    draw: (uniform) => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
    mirror: (e) => -e,
    points(n) {
      const at = Array.from({ length: n }, (_, k) => -8 + (16 * k) / (n - 1));
      const total = at.reduce((sum, e) => sum + Math.exp((-e * e) / 2), 0);
      return at.map((e) => [e, Math.exp((-e * e) / 2) / total]);
    },
  },
  "U(0, 1)": {
    draw: (uniform) => uniform(),
    mirror: (u) => 1 - u,
    points: (n) => Array.from({ length: n }, (_, k) => [(k + 0.5) / n, 1 / n]),
  },
};

const drawNoises = (uniform) =>
  page.noises.map(({ distribution, shape }) =>
    made(
      shape,
      Float64Array.from({ length: sizeOf(shape) }, () => DISTRIBUTIONS[distribution].draw(uniform)),
    ),
  );

/** Noises with weights over which an average is an expectation: a grid for one or two, and draws for more. */
const forAverages = (() => {
  let found = null;
  return () => (found ??= makeGrid());
  function makeGrid() {
    const count = page.noises.length,
      isArray = page.noises.some(({ shape }) => shape.length);
    if (count > 2 || isArray) {
      const uniform = uniforms(99),
        draws = isArray ? 2000 : 10000;
      return Array.from({ length: draws }, () => [drawNoises(uniform), 1 / draws]);
    }
    const points = page.noises.map(({ distribution }) =>
      DISTRIBUTIONS[distribution].points(count > 1 ? 61 : distribution === "U(0, 1)" ? 4001 : 401),
    );
    return points.reduce(
      (grid, line) => grid.flatMap(([noises, weight]) => line.map(([e, w]) => [[...noises, e], weight * w])),
      [[[], 1]],
    );
  }
})();

/** Return the averages of some rows over all noise. */
function averages(rows, sliders) {
  const run = runner(rows),
    totals = rows.map(() => 0);
  const values = leaves(sliders, now.noises);
  for (const [noises, weight] of forAverages()) {
    page.noises.forEach(({ row }, k) => {
      values[row] = noises[k];
    });
    run(values);
    rows.forEach((row, k) => {
      totals[k] += weight * values[row];
    });
  }
  return totals;
}
