// What each op does to numbers. The program of a page is made of these; derivatives come with it, as calls of the same
// ops, recorded by the library. A page whose graph uses another op looks its numbers up.

const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const halfToEven = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
const isNegative = (x) => x < 0 || Object.is(x, -0);
const quotientSquared = (x, y) => (x / y) ** 2;

const OPS = {
  number: (x) => Number(x),
  // arithmetic
  add: (x, y) => x + y,
  subtract: (x, y) => x - y,
  multiply: (x, y) => x * y,
  divide: (x, y) => x / y,
  divide_or_zero: (x, y) => (y === 0 ? 0 : x / y),
  reciprocal: (x) => 1 / x,
  negative: (x) => -x,
  floor_divide: (x, y) => Math.floor(x / y),
  remainder: (x, y) => x - Math.floor(x / y) * y,
  // powers, exponentials and logarithms
  square: (x) => x * x,
  sqrt: (x) => Math.sqrt(x),
  pow: (x, y) => x ** y,
  exp: (x) => Math.exp(x),
  expm1: (x) => Math.expm1(x),
  log: (x) => Math.log(x),
  log1p: (x) => Math.log1p(x),
  log2: (x) => Math.log2(x),
  log10: (x) => Math.log10(x),
  logaddexp: (x, y) => (x === y ? x + Math.LN2 : Math.max(x, y) + Math.log1p(Math.exp(-Math.abs(x - y)))),
  sigmoid,
  softplus,
  logit: (x) => Math.log(x) - Math.log1p(-x),
  xlogy: (x, y) => (x === 0 ? 0 : x * Math.log(y)),
  xlog1py: (x, y) => (x === 0 ? 0 : x * Math.log1p(y)),
  hypot: (x, y) => Math.hypot(x, y),
  // trigonometry
  sin: (x) => Math.sin(x),
  cos: (x) => Math.cos(x),
  tan: (x) => Math.tan(x),
  asin: (x) => Math.asin(x),
  acos: (x) => Math.acos(x),
  atan: (x) => Math.atan(x),
  atan2: (y, x) => Math.atan2(y, x),
  sinh: (x) => Math.sinh(x),
  cosh: (x) => Math.cosh(x),
  tanh: (x) => Math.tanh(x),
  asinh: (x) => Math.asinh(x),
  acosh: (x) => Math.acosh(x),
  atanh: (x) => Math.atanh(x),
  // kinks, steps and choices
  abs: (x) => Math.abs(x),
  relu: (x) => Math.max(x, 0),
  maximum: (x, y) => Math.max(x, y),
  minimum: (x, y) => Math.min(x, y),
  copysign: (x, y) => (isNegative(y) ? -Math.abs(x) : Math.abs(x)),
  undefined_slope: () => 0,
  sign: (x) => Math.sign(x),
  floor: (x) => Math.floor(x),
  ceil: (x) => Math.ceil(x),
  trunc: (x) => Math.trunc(x),
  round: halfToEven,
  signbit: isNegative,
  isnan: (x) => Number.isNaN(x),
  isinf: (x) => Math.abs(x) === Infinity,
  isfinite: (x) => Number.isFinite(Number(x)),
  less: (x, y) => x < y,
  less_equal: (x, y) => x <= y,
  equal: (x, y) => Number(x) === Number(y),
  not_equal: (x, y) => Number(x) !== Number(y),
  logical_and: (x, y) => Boolean(x) && Boolean(y),
  logical_or: (x, y) => Boolean(x) || Boolean(y),
  logical_xor: (x, y) => Boolean(x) !== Boolean(y),
  logical_not: (x) => !x,
  where: (condition, x, y) => (condition ? x : y),
  // probabilities
  normal_log_prob: (x, loc, scale) =>
    -quotientSquared(x - loc, scale) / 2 - Math.log(scale) - Math.log(2 * Math.PI) / 2,
  normal_kl: (loc, scale, loc2, scale2) =>
    (quotientSquared(scale, scale2) + quotientSquared(loc - loc2, scale2) - 1) / 2 - Math.log(scale / scale2),
  bernoulli_log_prob: (x, logits) => -softplus((1 - 2 * x) * logits),
};
