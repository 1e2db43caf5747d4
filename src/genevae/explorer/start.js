/* The page: what is chosen, what is set, and what is drawn of it. */
const at = (id) => document.getElementById(id);
const say = (id, text) => { at(id).textContent = text; };
const state = {choice: null, A: {}, B: {}, gene: null, over: null, rows: 12, lit: null};
const percent = Math.round(100 * report.interval);
const unit = report.counts ? "counts in 10,000" : "log-normalised";
let result = null;

const map = new ChoiceMap(document.querySelector("figure.map"), report.map, (choice, place) => choose(choice, place));
const volcano = new Volcano(document.querySelector("figure.volcano"), (gene) => showGene(gene));
const curve = new GeneCurve(document.querySelector("figure.curve"), {});
const charts = [map, volcano, curve];

/* ---- titles and words ---- */
{
  const {recipe, data, run} = report.about;
  say("title", run || `${recipe} model`);
  say("subtitle", `A ${recipe} model, on ${data || "training cells that it keeps"}: ${N.toLocaleString("en")} cells on the map, ${report.genes.length.toLocaleString("en")} genes.`);
  const facts = [
    ["Expression", `What the decoder predicts, computed in this page: the mean over the chosen cells (at most ${MOST_DECODED} of them, evenly spaced), each decoded from its latent in the condition that is set${report.counts ? ", as counts in a cell of 10,000" : ""}. It is the expectation of the model, without noise and without an interval.`],
    ["Change", report.counts ? "In log-normalised expression: the natural logarithm of 1 + counts in 10,000. A change of 0.7 is about a doubling of a gene that is expressed." : "On the logarithmic scale of the model. A change of 0.7 is about a doubling."],
    ["Answer", report.answers.length ? `The change of the mean of a group of cells, computed when the page was made by genevae counterfactual: the model and simple methods, weighted by how well each predicted states that it had not seen; where training cells had the state, what was measured in them. The interval holds the mean that would be measured in ${percent} % of cases.` : "This page has no answers with intervals. Make it with the data of the model: genevae explore RUN DATA --out explorer.html."],
    ["Support", `From 0 to 1: near 1 where training cells like these were seen in the condition, near 0 where none were. It is that of the group of the cells. Typical training cells have about one half. Where no training cell had the condition, or support is below ${UNSEEN}, results are grey: the model extrapolates, and nothing says how well.`],
    ["Latents", "Kept to 1/65,534 of their range; weights to 16 bits. The differences from Python are below one part in a thousand."],
  ];
  for (const [name, text] of facts) { const row = make("div", {}, at("facts")); make("dt", {}, row, name); make("dd", {}, row, text); }
}

/* ---- choose cells ---- */
const groups = [["All cells", {cells: range(N), title: "all cells"}]];
const select = at("group");
make("option", {value: 0}, select, `All cells (${N.toLocaleString("en")})`);
const addGroup = (parent, title, cells) => {
  if (!cells.length) return;
  make("option", {value: groups.length}, parent, `${title} (${cells.length.toLocaleString("en")})`);
  groups.push([title, {cells, title}]);
};
const chosen_of = (names, codes) => {
  const cells = names.map(() => []);
  codes.forEach((code, i) => cells[code]?.push(i));
  return names.map((name, code) => [name, cells[code]]).sort((a, b) => a[0].localeCompare(b[0], "en", {numeric: true}));
};
for (const [title, names, codes] of [["Groups", report.states, stateOf], ...map.fields.filter((field) => field.kind === "category").map((field) => [field.name, field.names, field.values])]) {
  if (names.length < 2) continue;
  const parent = make("optgroup", {label: title}, select);
  for (const [name, cells] of chosen_of(names, codes)) addGroup(parent, name, cells);
}
select.addEventListener("change", () => choose(groups[Number(select.value)][1], null, true));
at("cell").addEventListener("change", () => {
  const name = at("cell").value.trim();
  if (!name) return;
  const exact = report.names.indexOf(name), found = exact >= 0 ? exact : report.names.findIndex((each) => each.toLowerCase().startsWith(name.toLowerCase()));
  say("cell-note", found < 0 ? `No cell on the map is called ${name}. Names are like ${report.names[0]}.` : "");
  if (found >= 0) choose({cells: [found], title: report.names[found]});
});

function choose(choice, place = null, isGroup = false) {
  state.choice = choice;
  if (!isGroup) { make("option", {value: "", hidden: ""}, select, choice.title); select.value = ""; [...select.querySelectorAll("option[hidden]")].slice(0, -1).forEach((node) => node.remove()); }
  map.choose_cells(choice.around ? [] : choice.cells, place);
  if (choice.around) map.chosen = null;
  update();
}

/* ---- set conditions ---- */
function settingCell(field, which) {
  const cell = make("td"), label = `${field.name} in ${which}`;
  if (field.labels) {
    const menu = make("select", {"aria-label": label, id: `set-${which}-${fields.indexOf(field)}`}, cell);
    make("option", {value: ""}, menu, "observed");
    field.labels.forEach((name, code) => make("option", {value: code}, menu, name));
    menu.addEventListener("change", () => set(which, field.name, menu.value === "" ? null : Number(menu.value)));
    return cell;
  }
  const values = valuesOf(field), id = `set-${which}-${fields.indexOf(field)}`;
  const box = make("div", {class: "slider"}, cell);
  const slider = make("input", {type: "range", min: -1, max: values.length - 1, value: -1, step: 1, "aria-label": label, id}, box);
  const output = make("output", {for: id}, box, "as observed");
  const shown = () => {
    const value = slider.value === "-1" ? null : values[Number(slider.value)];
    const text = value === null ? "as observed" : brief(value) + (field.levels.length && !field.levels.some((level) => isSame(field, level, value)) ? " (between)" : "");
    output.textContent = text;
    slider.setAttribute("aria-valuetext", text);
    return value;
  };
  slider.addEventListener("input", () => set(which, field.name, shown()));
  slider.addEventListener("shown", shown);
  shown();
  return cell;
}
for (const field of fields) {
  const row = make("tr", {}, at("settings"));
  const head = make("th", {scope: "row"}, row, field.name);
  if (field.labels && field.control) make("small", {}, head, `control ${field.control}`);
  else if (field.technical) make("small", {}, head, "technical batch");
  else if (!field.labels) make("small", {}, head, `${brief(field.low)} to ${brief(field.high)}`);
  row.append(settingCell(field, "A"), settingCell(field, "B"));
}
if (!fields.length) make("td", {colspan: 3}, make("tr", {}, at("settings")), "This model is given no condition: there is nothing to set.");

function set(which, name, value) {
  state[which][name] = value;
  soon();
}

function showSettings() {
  for (const which of ["A", "B"]) {
    fields.forEach((field, i) => {
      const control = at(`set-${which}-${i}`), value = state[which][field.name] ?? null;
      control.value = field.labels ? (value === null ? "" : String(value)) : String(value === null ? -1 : valuesOf(field).findIndex((each) => isSame(field, each, value)));
      if (!field.labels) control.dispatchEvent(new Event("shown"));
    });
  }
}
at("swap").addEventListener("click", () => { [state.A, state.B] = [state.B, state.A]; showSettings(); update(); });
at("reset").addEventListener("click", () => { state.A = {}; state.B = {}; showSettings(); update(); });

/* ---- the result ---- */
let waiting = 0;
function soon() { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(update); }

function update() {
  result = resultOf(state.choice, state.A, state.B);
  const n = state.choice.around ? 1 : state.choice.cells.length;
  say("chosen", `Chosen: ${state.choice.title}${n > 1 && !state.choice.title.startsWith(n.toLocaleString("en")) ? `, ${n.toLocaleString("en")} cells` : ""}.`);
  supportShown();
  answerShown();
  table();
  volcanoShown();
  setsShown();
  geneSoon();
  say("command", commandFor(result));
  say("python", pythonFor(state.choice, result, state.A, state.B));
}

function supportShown() {
  const {quiet, line, palette} = theme();
  for (const [id, found] of [["support-a", result.supportA], ["support-b", result.supportB]]) {
    at(id).replaceChildren();
    if (found === null) { at(id).textContent = "not computed"; continue; }
    const bar = shape("svg", {width: 72, height: 8, viewBox: "0 0 72 8", preserveAspectRatio: "none", class: "meter", "aria-hidden": "true"}, at(id));
    shape("rect", {width: 72, height: 8, rx: 4, fill: line}, bar);
    shape("rect", {width: Math.max(4, 72 * found.share).toFixed(1), height: 8, rx: 4, fill: found.isUnseen ? quiet : palette[0]}, bar);
    make("span", {}, at(id), found.share.toFixed(2) + (found.isUnseen ? ", never seen" : ""));
  }
  const both = [["A", result.supportA], ["B", result.supportB]].filter(([, found]) => found), banner = at("support");
  const unseen = both.filter(([, found]) => found.isUnseen), little = both.filter(([, found]) => found.share < LITTLE);
  at("result").classList.toggle("unseen-state", unseen.length > 0);
  banner.hidden = !little.length && !unseen.length;
  const say_of = (some) => some.map(([name, found]) => `${name} (support ${found.share.toFixed(2)})`).join(" and ");
  banner.textContent = banner.hidden ? "" : unseen.length
    ? `Never seen: ${say_of(unseen)}. No training cells like these were in this condition. The model extrapolates, so do not rely on it.`
    : `Little seen: ${say_of(little)}. Few training cells like these were in this condition.`;
}

function answerShown() {
  const {answer} = result;
  if (!answer.shift) { say("answer-note", answer.reason); return; }
  const sure = answer.half ? [...answer.shift].filter((x, g) => Math.abs(x) > answer.half[g]).length : 0;
  const {rows} = answer, from = rows.length === 1 ? `the group ${rows[0].name}, ${rows[0].n.toLocaleString("en")} cells` : `${rows.length} groups, weighted by their cells`;
  const weights = rows.length === 1 ? Object.entries(answer.table.members[rows[0].row]).sort((a, b) => b[1] - a[1]).filter(([, w]) => w >= 0.005).map(([name, w]) => `${name} ${Math.round(100 * w)} %`).join(", ") : "";
  say("answer-note", `${answer.half ? `${sure.toLocaleString("en")} of ${report.genes.length.toLocaleString("en")} genes change, by intervals of ${percent} %.` : "Nothing says how far off this answer is, so that it has no interval."} Answer of ${from}${weights ? `; made of ${weights}` : ""}.`);
}

const ORDERS = {
  size: ["largest change", (g) => -Math.abs(result.shift[g])],
  sure: ["surest change", (g) => (result.half ? -Math.abs(result.shift[g]) / (result.half[g] || 1e-9) : -Math.abs(result.shift[g]))],
  up: ["rises most", (g) => -result.shift[g]],
  down: ["falls most", (g) => result.shift[g]],
  decoder: ["largest by the decoder", (g) => -Math.abs(result.change[g])],
  level: ["highest expression", (g) => -Math.max(result.inA[g], result.inB[g])],
};
for (const [name, [title]] of Object.entries(ORDERS)) make("option", {value: name}, at("order"), title);
at("order").addEventListener("change", table);
at("more").addEventListener("click", () => { state.rows += 24; table(); });

function table() {
  const key = ORDERS[at("order").value][1], order = range(report.genes.length).map((g) => [key(g), g]).sort((a, b) => a[0] - b[0]).slice(0, state.rows).map(([, g]) => g);
  const {inA, inB, change, answer} = result, width = 168;
  at("columns").replaceChildren();
  for (const [title, small, kind] of [["Gene", "", ""], ["A", unit, "number wide"], ["B", unit, "number wide"], ["Change", "log scale", "number"], [answer.half ? `${percent} % interval` : "", "", ""]]) {
    const head = make("th", {scope: "col", class: kind}, at("columns"), title);
    if (small) make("small", {}, head, small);
  }
  const across = scale(...ends(order.flatMap((g) => { const half = answer.half ? answer.half[g] : 0; return [0, change[g], result.shift[g] - half, result.shift[g] + half]; })), 6, width - 6);
  const {palette, quiet, line, ground} = theme();
  at("genes").replaceChildren(...order.map((g) => {
    const row = make("tr"), head = make("th", {scope: "row"}, row), button = make("button", {type: "button", class: "link"}, head, report.genes[g]);
    button.addEventListener("click", () => showGene(g));
    make("small", {class: "narrow"}, head, `${brief(inA[g])} → ${brief(inB[g])}`);
    make("td", {class: "number wide"}, row, brief(inA[g]));
    make("td", {class: "number wide"}, row, brief(inB[g]));
    const cell = make("td", {class: "number"}, row);
    make("b", {}, cell, signed(result.shift[g]));
    if (answer.half) make("small", {}, cell, `${signed(answer.shift[g] - answer.half[g])} to ${signed(answer.shift[g] + answer.half[g])}`);
    const svg = shape("svg", {width, height: 22, viewBox: `0 0 ${width} 22`, "aria-hidden": "true"}, make("td", {class: "forest"}, row));
    shape("line", {x1: across(0), x2: across(0), y1: 0, y2: 22, stroke: line}, svg);
    const colour = result.shift[g] > 0 ? palette[3] : palette[0];
    if (answer.shift) {
      if (answer.half) shape("line", {x1: across(answer.shift[g] - answer.half[g]), x2: across(answer.shift[g] + answer.half[g]), y1: 11, y2: 11, stroke: colour, "stroke-width": 2.4, "stroke-linecap": "round"}, svg);
      shape("circle", {cx: across(answer.shift[g]), cy: 11, r: 4.2, fill: colour}, svg);
    }
    shape("circle", {cx: across(change[g]), cy: 11, r: 3.4, fill: ground, stroke: answer.shift ? quiet : colour, "stroke-width": 1.6}, svg);
    return row;
  }));
  at("more").hidden = state.rows >= report.genes.length;
}
const signed = (x) => (x > 0 ? "+" : "") + brief(Number(x.toPrecision(3)));

function volcanoShown() {
  const {shift, half, inA, inB, answer} = result;
  say("volcano-title", half ? "Change and how sure it is" : "Change and expression");
  const points = range(shift.length).map((g) => ({
    gene: g, x: shift[g], sure: half ? Math.abs(shift[g]) > half[g] : Math.abs(shift[g]) > 0.25,
    y: half ? Math.min(Z * Math.abs(shift[g]) / (half[g] || 1e-9), 40) : logged(Math.max(inA[g], inB[g])),
  }));
  volcano.show(points, {x_label: answer.shift ? "change (answer)" : "change (decoder)", level: half ? Z : null, y_label: half ? "change over its standard error (40 at most)" : `expression, ${report.counts ? "log of 1 + " : ""}${unit}`}, state.lit);
}

function setsShown() {
  const scores = setScores(result).slice(0, 15);
  at("sets-section").hidden = !scores.length;
  at("sets").replaceChildren(...scores.map(({name, genes, mean, z}) => {
    const row = make("tr"), button = make("button", {type: "button", class: "link", title: "Mark its genes in the picture"}, make("th", {scope: "row"}, row), name);
    button.addEventListener("click", () => { state.lit = new Set(genes); volcanoShown(); });
    for (const text of [genes.length, signed(mean), signed(z)]) make("td", {class: "number"}, row, String(text));
    return row;
  }));
}

/* ---- one gene ---- */
report.genes.slice(0, 5000).forEach((name) => make("option", {value: name}, at("gene-names")));
const placeOf = new Map(report.genes.map((name, g) => [name.toLowerCase(), g]));
const overs = fields.filter((field) => (field.labels ? field.n_known > 1 : field.high > field.low));
overs.forEach((field, i) => make("option", {value: i}, at("over"), field.name));
const byInterest = [(field) => field.is_dose, (field) => field.control, () => true].map((of) => overs.findIndex(of));
state.over = byInterest.find((i) => i >= 0) ?? null;
if (state.over !== null) at("over").value = String(state.over);
else for (const node of [at("over").parentElement, at("copy-gene"), document.querySelector("figure.curve"), document.querySelector("#gene-section .key")]) node.hidden = true;
if (!fields.length) at("swap").parentElement.hidden = true;
at("over").addEventListener("change", () => { state.over = Number(at("over").value); geneShown(); });
at("gene").addEventListener("change", () => {
  const g = placeOf.get(at("gene").value.trim().toLowerCase());
  say("gene-note", g === undefined ? `This model has no gene ${at("gene").value.trim()}.` : "");
  if (g !== undefined) showGene(g, false);
});
at("colour-gene").addEventListener("click", () => { map.colour_gene(state.gene); notice(`The map shows ${report.genes[state.gene]}, as predicted.`); });

function showGene(g, scroll = true) {
  state.gene = g;
  say("gene-note", "");
  geneShown();
  if (scroll && at("gene-section").getBoundingClientRect().top > innerHeight) at("gene-section").scrollIntoView({block: "nearest"});
}

/** The curve of a gene decodes many conditions: it follows the rest, so that sliders do not wait for it. */
let later = 0;
function geneSoon() {
  clearTimeout(later);
  later = setTimeout(geneShown, curve.rows ? 60 : 0);
}

function geneShown() {
  if (state.gene === null) state.gene = range(report.genes.length).reduce((best, g) => (Math.abs(result.shift[g]) > Math.abs(result.shift[best]) ? g : best), 0);
  at("gene").value = report.genes[state.gene];
  if (state.over === null) return;
  const field = overs[state.over], title = `change of ${report.genes[state.gene]} from A, log scale`;
  const rows = geneRows(result, state.gene, field, state.A, state.B);
  curve.show(rows, {unit: report.counts ? "in 10,000" : "level", ...(field.labels ? {x_label: title} : {x_label: field.name, y_label: title})}, field.labels ? null : field);
}

/* ---- copies ---- */
let fading = 0;
function notice(text) {
  say("toast", text);
  at("toast").classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => at("toast").classList.remove("shown"), 2200);
}
async function copy(text, what) {
  try { await navigator.clipboard.writeText(text); } catch {
    const area = make("textarea", {class: "unseen", "aria-hidden": "true"}, document.body), before = document.activeElement;
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
    before?.focus();
  }
  notice(`Copied ${what}.`);
}
at("copy-csv").addEventListener("click", () => copy(csvOf(result), "all genes as CSV"));
at("copy-volcano").addEventListener("click", () => copy(svgText(volcano), "the picture as SVG"));
at("copy-gene").addEventListener("click", () => copy(svgText(curve), "the picture as SVG"));
at("copy-command").addEventListener("click", () => copy(at("command").textContent, "the command"));
at("copy-python").addEventListener("click", () => copy(at("python").textContent, "the lines of Python"));

/* ---- begin: the largest group of the control, as if it had the first other category ---- */
const drawAll = () => { map.redraw(); map.mark_chosen(); update(); };
{
  const perturbed = categorical.find((field) => field.control && field.n_known > 1);
  const control = perturbed ? perturbed.labels.indexOf(perturbed.control) : -1;
  const sizes = groups.slice(1).map(([, choice], i) => [choice.cells.length, i + 1]).filter(([, i]) => report.states.includes(groups[i][0]) && (control < 0 || groups[i][1].cells.every((cell) => perturbed.of[cell] === control)));
  sizes.sort((a, b) => b[0] - a[0]);
  const first = sizes.length ? sizes[0][1] : 0;
  if (perturbed) {
    state.B[perturbed.name] = perturbed.labels.findIndex((name, code) => code !== control && code < perturbed.n_known);
    const dose = numeric.find((field) => field.is_dose);
    if (dose) state.B[dose.name] = dose.levels.length ? dose.levels[dose.levels.length - 1] : valuesOf(dose).at(-1);
  }
  const others = perturbed ? null : categorical.find((field) => !field.technical && field.n_known > 1);
  if (others) state.B[others.name] = range(others.n_known).find((code) => code !== others.of[groups[first][1].cells[0]]);
  if (!fields.length) at("order").value = "level";
  showSettings();
  map.redraw();
  select.value = String(first);
  choose(groups[first][1], null, true);
}
let drawnAt = document.documentElement.clientWidth;
addEventListener("resize", () => {
  if (document.documentElement.clientWidth === drawnAt || printing) return;
  drawnAt = document.documentElement.clientWidth;
  drawAll();
});
darkness.addEventListener("change", drawAll);
addEventListener("beforeprint", () => { printing = true; drawAll(); });
addEventListener("afterprint", () => { printing = false; requestAnimationFrame(drawAll); });
addEventListener("scroll", () => tip.hide(), {passive: true});

/* For tests and for other pages: the decoder by the names of categories. */
window.genevae = {
  decode(z, condition, size = report.size) {
    const given = Object.fromEntries(fields.map((field) => [field.name, field.labels ? field.labels.indexOf(condition[field.name]) : condition[field.name]]));
    return decoder.decode(Float32Array.from(z), given, given, size);
  },
  get result() { return result; },
};
document.documentElement.dataset.drawn = String(charts.length);
