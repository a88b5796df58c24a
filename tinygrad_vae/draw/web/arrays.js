// Arrays: numbers with a shape. Ops on numbers run over them element by element; the few below know of axes.

const shapeOf = (x) => (typeof x === "object" ? x.shape : []);
const dataOf = (x) => (typeof x === "object" ? x.data : [x]);
const sizeOf = (shape) => shape.reduce((size, n) => size * n, 1);

/** Return an array, or a number where there are no axes. */
const made = (shape, data) => (shape.length ? { shape, data } : data[0]);

/** Return for each element of an array of one shape the place that it has in one that broadcasts to it. */
const placesIn = (() => {
  const known = new Map();
  return (from, to) => {
    const key = `${from};${to}`;
    if (!known.has(key)) known.set(key, find(from, to));
    return known.get(key);
  };
  function find(from, to) {
    const places = new Int32Array(sizeOf(to));
    for (let i = 0; i < places.length; i++) {
      let rest = i,
        step = 1;
      for (let axis = 1; axis <= to.length; axis++) {
        const size = to.at(-axis),
          own = from.at(-axis) ?? 1;
        if (axis <= from.length) {
          places[i] += own === 1 ? 0 : (rest % size) * step;
          step *= own;
        }
        rest = Math.floor(rest / size);
      }
    }
    return places;
  }
})();

function broadcastShape(shapes) {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, k) => Math.max(...shapes.map((shape) => shape.at(k - rank) ?? 1)));
}

/** Run an op on numbers over arrays that broadcast together. */
function elementwise(op, inputs) {
  const shape = broadcastShape(inputs.map(shapeOf)),
    data = new Float64Array(sizeOf(shape));
  const [x, y, z, w] = inputs.map((input) => [dataOf(input), placesIn(shapeOf(input), shape)]);
  for (let i = 0; i < data.length; i++) {
    data[i] = op(x[0][x[1][i]], y?.[0][y[1][i]], z?.[0][z[1][i]], w?.[0][w[1][i]]);
  }
  return made(shape, data);
}

/** Add up an array to a shape that broadcasts to its own; the result is handed out in another shape. */
function addUp(x, kept, shape) {
  const data = new Float64Array(sizeOf(kept)),
    places = placesIn(kept, shapeOf(x)),
    from = dataOf(x);
  for (let i = 0; i < from.length; i++) data[places[i]] += from[i];
  return made(shape, data);
}

const ARRAY_OPS = {
  sum: (x, { kept, shape }) => addUp(x, kept, shape),
  mean: (x, { kept, shape }) => elementwise((y) => (y * sizeOf(kept)) / sizeOf(shapeOf(x)), [addUp(x, kept, shape)]),
  sum_to: (x, { shape }) => addUp(x, shape, shape),
  reshape: (x, { shape }) => made(shape, dataOf(x)),
  broadcast_to: (x, { shape }) =>
    made(
      shape,
      Float64Array.from(placesIn(shapeOf(x), shape), (place) => dataOf(x)[place]),
    ),
  matrix_transpose: (x) => {
    const [rows, columns] = x.shape;
    return made(
      [columns, rows],
      x.data.map((_, i) => x.data[(i % rows) * columns + Math.floor(i / rows)]),
    );
  },
  matmul: (x, y) => {
    const [rows, inner] = x.shape,
      columns = y.shape[1],
      data = new Float64Array(rows * columns);
    for (let i = 0; i < rows; i++) {
      for (let k = 0; k < inner; k++) {
        const factor = x.data[i * inner + k];
        for (let j = 0; j < columns; j++) data[i * columns + j] += factor * y.data[k * columns + j];
      }
    }
    return made([rows, columns], data);
  },
  linear: (x, weight, bias) => elementwise(OPS.add, [ARRAY_OPS.matmul(x, weight), bias]),
};
