/* The result: what the decoder predicts in A and B, the answers of Python for the same cells, and their support. */
const MOST_DECODED = 100, UNSEEN = 0.1, LITTLE = 0.2;
const Z = (() => { /* the quantile of the normal distribution that an interval ends at */
  let low = 0, high = 10;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (erf(middle / Math.SQRT2) < report.interval) low = middle; else high = middle;
  }
  return low;
})();

const logged = (value) => (report.counts ? Math.log1p(value) : value);

/** Evenly spaced cells of a choice, as many as are decoded at once. */
function some(cells) {
  if (cells.length <= MOST_DECODED) return cells;
  return range(MOST_DECODED).map((i) => cells[Math.round(i * (cells.length - 1) / (MOST_DECODED - 1))]);
}

/** A place on the map as a cell: the mean latent of cells around it, in the condition of the nearest. */
function cellAround(near) {
  const nearest = cellAt(near[0][1]), z = new Float32Array(nearest.z.length);
  const weights = near.map(([far]) => 1 / (far + 1)), whole = weights.reduce((a, b) => a + b, 0);
  near.forEach(([, i], n) => cellAt(i).z.forEach((value, k) => { z[k] += value * weights[n] / whole; }));
  return {...nearest, z};
}

/** The mean over cells of what the decoder predicts in a condition; the last four are kept, since mostly one of A and B changes. */
const kept_means = [];
function meanIn(cells, setting) {
  const key = JSON.stringify([cells.map(({at, z}) => [at, z[0]]), setting]);
  const known = kept_means.find((each) => each.key === key);
  if (known) return known.mean;
  const mean = new Float64Array(report.genes.length);
  for (const cell of cells) decode(cell, conditionOf(cell, setting)).forEach((x, g) => { mean[g] += x / cells.length; });
  kept_means.unshift({key, mean});
  kept_means.length = Math.min(kept_means.length, 4);
  return mean;
}

/** The mean support of cells in a condition, and whether training cells had it; null where that of some was not computed. */
function meanSupport(cells, setting) {
  let share = 0, seen = true;
  for (const cell of cells) {
    const found = supportOf(cell, conditionOf(cell, setting));
    if (found === null) return null;
    share += found.share / cells.length;
    seen &&= found.seen;
  }
  return {share, isUnseen: !seen || share < UNSEEN};
}

const isSame = (field, a, b) => (field.labels ? a === b : Math.abs(a - b) <= 1e-5 * Math.max(Math.abs(a), Math.abs(b)));
const named = (field, value) => (field.labels ? field.labels[value] : value);
const opened_answers = report.answers.map((table) => ({
  ...table, shift: matrix(table.shift), half: matrix(table.half), of: table.group && array(table.group),
  place: new Map(table.pairs.map(([group, target], row) => [`${group}|${target}`, row])),
}));

/** The answer for cells that are moved from A to B: a weighted mean over their groups; or why there is none. */
function answerFor(cells, A, B) {
  const changed = fields.filter(({name}) => (B[name] ?? null) !== null || (A[name] ?? null) !== null);
  if (!changed.length) return {reason: fields.length ? "A and B are the same. Set a condition of B." : "This model is given no condition: there is nothing to change. The table has what it expects of the chosen cells."};
  const moves = (cell, field) => !isSame(field, conditionOf(cell, A)[field.name], conditionOf(cell, B)[field.name]);
  const stays = (cell) => fields.every((field) => isSame(field, conditionOf(cell, A)[field.name], cell.own[field.name]));
  if (cells.some((cell) => !stays(cell))) return {reason: "Answers start from cells as they were observed, and A is set to something else. Below is the decoder alone."};
  const moved = fields.filter((field) => !report.nested.some(({inner}) => inner === field.name && (B[inner] ?? null) === null) && cells.some((cell) => moves(cell, field)));
  if (!moved.length) return {reason: "These cells already are in condition B."};
  const table = opened_answers.find(({fields: names}) => moved.every(({name}) => names.includes(name)));
  if (!table) return {reason: report.answers.length ? `There is no answer for a change of ${moved.map(({name}) => name).join(" and ")}: answers are for ${report.answers.map(({fields: names}) => names.join(" and ")).join(", or ")}. Below is the decoder alone.` : report.about.data ? "This run kept no profiles of its training cells, so that there are no answers. Below is the decoder alone." : "The page was made without data, so that there are no answers with intervals. Below is the decoder alone."};
  const shares = new Map();
  for (const cell of cells) {
    const given = conditionOf(cell, B);
    const isTarget = (target, condition) => table.fields.every((name) => {
      const field = fields.find((each) => each.name === name);
      return isSame(field, field.labels ? field.labels.indexOf(target[name]) : Number(target[name]), condition[name]);
    });
    const target = table.targets.findIndex((each) => isTarget(each, given));
    if (target < 0) return {reason: "No training cell had exactly these values, so that there is no answer with an interval. Below is the decoder alone."};
    const key = isTarget(table.targets[target], cell.own) ? "same" : `${table.of[cell.at]}|${target}`;
    shares.set(key, (shares.get(key) || 0) + 1 / cells.length);
  }
  const shift = new Float64Array(report.genes.length), half = new Float64Array(report.genes.length), rows = [];
  let known = true;
  for (const [key, share] of shares) {
    if (key === "same") continue;
    const row = table.place.get(key);
    if (row === undefined) return {reason: "The answer for these cells was left out of the page, to keep it small."};
    known &&= table.known[row];
    rows.push({row, share, name: table.groups[table.pairs[row][0]], n: table.n[table.pairs[row][0]]});
    for (let g = 0, at = row * shift.length; g < shift.length; g++, at++) {
      shift[g] += share * table.shift.values[at];
      half[g] += share * table.half.values[at];
    }
  }
  rows.sort((a, b) => b.share - a.share);
  return {shift, half: known ? half : null, rows, table, target: table.pairs[rows[0].row][1]};
}

/** All that is shown of a choice of cells and two conditions. */
function resultOf(choice, A, B) {
  const cells = choice.around ? [cellAround(choice.around)] : some(choice.cells).map(cellAt);
  const inA = meanIn(cells, A), inB = meanIn(cells, B), answer = answerFor(cells, A, B);
  const change = inA.map((x, g) => logged(inB[g]) - logged(x));
  return {cells, inA, inB, change, answer, shift: answer.shift || change, half: answer.half || null, supportA: meanSupport(cells, A), supportB: meanSupport(cells, B)};
}

/** Sets of genes by how far their mean change is from that of all genes. */
function setScores({shift}) {
  const n = shift.length, mean = shift.reduce((a, b) => a + b, 0) / n;
  const sd = Math.sqrt(shift.reduce((sum, x) => sum + (x - mean) ** 2, 0) / n) || 1;
  return Object.entries(report.sets).map(([name, genes]) => {
    const own = genes.reduce((sum, g) => sum + shift[g], 0) / genes.length;
    return {name, genes, mean: own, z: (own - mean) / (sd * Math.sqrt((n - genes.length) / (n - 1 || 1) / genes.length) || 1)};
  }).sort((a, b) => Math.abs(b.z) - Math.abs(a.z));
}

/** Where each value of a field leads: the change of one gene from A, with the answer where there is one. */
function geneRows(result, gene, field, A, B) {
  const {cells, inA} = result, level = logged(inA[gene]);
  return valuesOf(field).map((value) => {
    const setting = {...B, [field.name]: value}, answer = answerFor(cells, A, setting);
    let mean = 0;
    for (const cell of cells) {
      const given = conditionOf(cell, setting);
      mean += decoder.decodeGene(gene, cell.z, given, given, report.size) / cells.length;
    }
    const row = {name: String(named(field, value)), dose: value, mean, value: logged(mean) - level, support: meanSupport(cells, setting), isB: (B[field.name] ?? null) !== null && isSame(field, B[field.name], value)};
    if (answer.half) Object.assign(row, {answer: answer.shift[gene], low: answer.shift[gene] - answer.half[gene], high: answer.shift[gene] + answer.half[gene]});
    return row;
  });
}

/** The values that a field can be set to: its categories, or doses that were measured and some between them. */
function valuesOf(field) {
  if (field.labels) return range(field.n_known);
  if (field.values_shown) return field.values_shown;
  const positive = field.levels.filter((level) => level > 0), least = Math.min(...positive, field.high);
  const isLog = field.is_dose && least > 0 && least < field.high;
  const between = range(25).map((i) => (isLog ? least * (field.high / least) ** (i / 24) : field.low + (field.high - field.low) * i / 24));
  const all = [...field.levels, ...between.filter((x) => !field.levels.some((level) => Math.abs(level - x) < 0.02 * Math.abs(x)))];
  if (isLog) all.push(0);
  return field.values_shown = [...new Set(all.map((x) => Number(x.toPrecision(6))))].sort((a, b) => a - b);
}

/* ---- the same numbers elsewhere ---- */

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\"'\"'")}'`);

function commandFor({answer}) {
  if (!answer.shift) return "# There is no answer for this choice: the lines of Python below give the decoder's numbers.";
  const set = answer.table.fields.flatMap((name) => ["--set", quoted(`${name}=${answer.table.targets[answer.target][name]}`)]);
  const {run, read} = report.about;
  return `${["genevae", "counterfactual", quoted(run || "RUN"), quoted(read || "DATA"), ...set, "--out", "answer.h5ad"].join(" ")}\n# the changes are in varm["shift"], with the ends of their intervals in "shift_lower" and "shift_upper"`;
}

function pythonFor(choice, {cells, answer}, A, B) {
  const text = (value) => JSON.stringify(value), {run, read} = report.about;
  const lines = ["import genevae as gv", "import numpy as np", `model = gv.load(${text(run || "RUN")})`];
  if (report.about.data) lines.push(`cells = gv.read(${text(read || "DATA")})`);
  if (answer.shift) {
    const groups = answer.rows.map(({name}) => name);
    lines.push("", "# the answer with its interval", `answer = gv.counterfactual(model, cells, ${text(answer.table.targets[answer.target])}, interval=${report.interval})`);
    lines.push(`print(answer.varm["shift"][${text(groups)}])`);
    if (answer.rows.length > 1) lines.push(`# the page has their mean, weighted by ${answer.rows.map(({share}) => share.toFixed(3)).join(", ")}`);
  }
  lines.push("", "# the decoder alone");
  const isPlace = Boolean(choice.around);
  if (report.about.data && !isPlace) {
    lines.push(`chosen = cells[${text(cells.map(({at}) => report.names[at]))}]`, 'z = gv.embed(model, chosen, correct=False).obsm["X_genevae"]');
  } else {
    lines.push(`z = np.array(${text(cells.map(({z}) => [...z].map((x) => Number(x.toPrecision(7)))))})`);
  }
  const literal = (setting) => `{${fields.map((field) => `${text(field.name)}: ${text(valuesIn(cells, setting, field))}`).join(", ")}}`;
  const size = report.counts ? `, size=${report.size}` : "", log = report.counts ? ["np.log1p(", ")"] : ["", ""];
  lines.push(`a = gv.decode(model, z, ${literal(A)}${size}).mean()`, `b = gv.decode(model, z, ${literal(B)}${size}).mean()`, `print((${log[0]}b${log[1]} - ${log[0]}a${log[1]}).sort_values())`);
  return lines.join("\n");
}

/** The value of a field in every cell, once if it is the same in all. */
function valuesIn(cells, setting, field) {
  const values = cells.map((cell) => named(field, conditionOf(cell, setting)[field.name]));
  return values.every((value) => value === values[0]) ? values[0] : values;
}

function csvOf({inA, inB, change, answer, supportB}) {
  const cell = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text), number = (x) => (Number.isFinite(x) ? Number(x.toPrecision(7)) : "");
  const rows = report.genes.map((gene, g) => {
    const ends = answer.half ? [answer.shift[g] - answer.half[g], answer.shift[g] + answer.half[g]] : [NaN, NaN];
    return [cell(gene), inA[g], inB[g], change[g], answer.shift ? answer.shift[g] : NaN, ...ends, supportB?.share ?? NaN].map((x, i) => (i ? number(x) : x)).join(",");
  });
  return ["gene,decoder_a,decoder_b,decoder_change,shift,lower,upper,support_b", ...rows].join("\n") + "\n";
}
