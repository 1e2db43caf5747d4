/* The decoder: products, additions and activations in 32-bit floats, as the model computes them. */

/** Open a matrix. Large ones are 16-bit codes q of w = scale · sign(q) · (q / 32767)², with a scale for each row. */
function matrix({rows, columns, values, codes, scale, ...more}) {
  if (values !== undefined) return {rows, columns, values: array(values), ...more};
  const q = array(codes), scales = array(scale), opened = new Float32Array(rows * columns);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at++) {
      const share = q[at] / 32767;
      opened[at] = scales[row] * share * Math.abs(share);
    }
  }
  return {rows, columns, values: opened, ...more};
}

/** The product of a row of a matrix with a vector. */
function dot({values, columns}, row, vector) {
  let a = 0, b = 0, c = 0, d = 0, at = row * columns, k = 0;
  for (; k + 3 < columns; k += 4, at += 4) {
    a += values[at] * vector[k];
    b += values[at + 1] * vector[k + 1];
    c += values[at + 2] * vector[k + 2];
    d += values[at + 3] * vector[k + 3];
  }
  for (; k < columns; k++, at++) a += values[at] * vector[k];
  return a + b + c + d;
}

function affine(weight, bias, vector) {
  const result = new Float32Array(weight.rows);
  for (let row = 0; row < weight.rows; row++) result[row] = dot(weight, row, vector) + (bias ? bias[row] : 0);
  return result;
}

/** The error function, to 1.2e-7. */
function erf(x) {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const series = [1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277]
    .reduceRight((sum, coefficient) => coefficient + t * sum, 0);
  const value = 1 - t * Math.exp(-x * x - 1.26551223 + t * series);
  return x < 0 ? -value : value;
}

const ACTIVATIONS = {
  relu: (x) => (x > 0 ? x : 0),
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  silu: (x) => x / (1 + Math.exp(-x)),
  leaky_relu: (x) => (x > 0 ? x : 0.01 * x),
  tanh: Math.tanh,
  identity: (x) => x,
};

function layerNorm(h, {weight, bias, epsilon}) {
  const mean = h.reduce((sum, x) => sum + x, 0) / h.length;
  const variance = h.reduce((sum, x) => sum + (x - mean) ** 2, 0) / h.length;
  h.forEach((x, i) => { h[i] = (x - mean) / Math.sqrt(variance + epsilon) * weight[i] + bias[i]; });
}

const logistic = (x) => 1 / (1 + Math.exp(-x));

/** How much of a drug's whole effect a dose has; the code is that of the drug. */
function response(spec, dose, code) {
  if (spec.type === "hill") return dose > 0 ? logistic(spec.slope[code] * (Math.log(dose) - spec.log_ec50[code])) : 0;
  const u = Math.log1p(dose / spec.unit);
  let sum = 0;
  for (let j = 0, at = code * spec.steps; j < spec.steps; j++, at++) {
    sum += spec.share.values[at] * -Math.expm1(-spec.rate.values[at] * u) * logistic(spec.rate.values[at] * u + spec.bias.values[at]);
  }
  return sum;
}

/** A decoder from its packed arrays: hidden units of a latent in a condition, and means from hidden units. */
function openDecoder(packed) {
  const open = (value) => {
    if (Array.isArray(value)) return value.map(open);
    if (value === null || typeof value !== "object") return value;
    if ("vector" in value) return array(value.vector);
    if ("rows" in value) return matrix(value);
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, open(each)]));
  };
  const model = open(packed), {output} = model;

  const addRow = (h, {values, columns}, row, times = 1) => {
    for (let i = 0, at = row * columns; i < columns; i++, at++) h[i] += times * values[at];
  };

  /** What the condition adds to the first hidden units. */
  function addCondition(h, codes, values) {
    const {tables, slopes, dose} = model.condition;
    for (const name in tables) addRow(h, tables[name], codes[name]);
    for (const name in slopes) {
      const {mean, scale, weight} = slopes[name];
      weight.forEach((w, i) => { h[i] += (values[name] - mean) / scale * w; });
    }
    if (!dose) return;
    const amount = values[dose.dose] > dose.smallest ? values[dose.dose] : 0;
    for (const part of dose.parts[codes[dose.drug]]) addRow(h, dose.table, part, response(dose.response, amount, part));
  }

  /** The last hidden units. */
  function hidden(z, codes, values) {
    if (model.heads) return additive(z, codes);
    let h = Float32Array.from(z);
    model.layers.forEach(({weight, bias, activation, norm}, number) => {
      h = affine(weight, bias, h);
      if (number === 0) addCondition(h, codes, values);
      if (norm) layerNorm(h, norm);
      const act = ACTIVATIONS[activation];
      for (let i = 0; i < h.length; i++) h[i] = act(h[i]);
    });
    return h;
  }

  /** Every head's part of the latent passes through the network of a category; the base passes as it is. */
  function additive(z, codes) {
    const found = [...z.slice(0, model.base)];
    let at = model.base;
    for (const {field, width, activation, layers} of model.heads) {
      let h = z.slice(at, at += width);
      const act = ACTIVATIONS[activation], code = codes[field];
      for (const {values, rows, columns, depth} of layers) {
        const next = new Float32Array(rows / depth);
        if (code < depth) next.forEach((_, i) => { next[i] = act(dot({values, columns}, code * next.length + i, h)); });
        h = next;
      }
      found.push(...h);
    }
    return Float32Array.from(found);
  }

  const n = output.weight.rows;
  /** The sum over genes of exp(logit), as its logarithm. */
  function logSum(logits) {
    let top = -Infinity, sum = 0;
    for (let g = 0; g < n; g++) if (logits[g] > top) top = logits[g];
    for (let g = 0; g < n; g++) sum += Math.exp(logits[g] - top);
    return top + Math.log(sum);
  }
  const kept = (h, g) => 1 - logistic(dot(model.gate.weight, g, h) + model.gate.bias[g]);
  const direct = (z, g) => (model.direct ? dot(model.direct, g, z) : 0);

  return {
    genes: n,
    /** Mean expression of every gene: counts in a cell of a size, or logarithms. */
    decode(z, codes, values, size) {
      const h = hidden(z, codes, values), mean = affine(output.weight, output.bias, h);
      if (!model.counts) {
        if (model.direct) for (let g = 0; g < n; g++) mean[g] += direct(z, g);
        return mean;
      }
      const whole = logSum(mean);
      for (let g = 0; g < n; g++) mean[g] = size * Math.exp(mean[g] - whole) * (model.gate ? kept(h, g) : 1);
      return mean;
    },
    /** The same for one gene; of counts, the sum over genes is computed where it is not given. */
    decodeGene(g, z, codes, values, size, whole) {
      const h = hidden(z, codes, values), value = dot(output.weight, g, h) + output.bias[g];
      if (!model.counts) return value + direct(z, g);
      const sum = whole ?? logSum(affine(output.weight, output.bias, h));
      return size * Math.exp(value - sum) * (model.gate ? kept(h, g) : 1);
    },
  };
}
