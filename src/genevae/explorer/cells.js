/* The cells of the page, as the decoder needs them, and the map on which they are chosen. */
const N = report.names.length;
const decoder = openDecoder(report.decoder);
const latents = report.latent.map(({values, low, high}) => ({codes: array(values), low, step: (high - low) / FULL}));
const fields = report.fields.map((field) => ({...field, of: array(field.labels ? field.codes : field.values)}));
const categorical = fields.filter((field) => field.labels), numeric = fields.filter((field) => !field.labels);
const stateOf = array(report.state), logSums = report.log_sum === null ? null : array(report.log_sum);

/** A cell: its latent, its own condition, and the group that its support is that of. */
function cellAt(i) {
  const z = new Float32Array(latents.length);
  latents.forEach(({codes, low, step}, k) => { z[k] = low + step * codes[i]; });
  return {z, state: stateOf[i], at: i, own: Object.fromEntries(fields.map((field) => [field.name, field.of[i]]))};
}

/** The condition of a cell when some fields are set; a nested field takes a category that occurs with what is set. */
function conditionOf(cell, setting) {
  const given = {...cell.own};
  for (const name in setting) if (setting[name] !== null) given[name] = setting[name];
  for (const {inner, outer, outer_c} of report.nested) {
    const free = (setting[inner] ?? null) === null && (setting[outer] ?? null) !== null;
    if (!free || outer_c[given[inner]] === given[outer]) continue;
    const fitting = outer_c.indexOf(given[outer]);
    if (fitting >= 0) given[inner] = fitting;
  }
  return given;
}

/** The support of a cell in a condition, that of its group, and whether training cells had it; null where it was not computed. */
function supportOf(cell, condition) {
  const {fields: names, keys, columns, share, seen} = report.support;
  const column = keys[names.map((name) => condition[name]).join("|")];
  return column === undefined ? null : {share: array(share)[cell.state * columns + column] / 255, seen: seen[column]};
}

const decode = (cell, condition) => decoder.decode(cell.z, condition, condition, report.size);

class ChoiceMap extends CellMap {
  constructor(figure, spec, picked) {
    super(figure, spec);
    Object.assign(this, {picked, chosen: null, place: null, path: null, lassoing: false});
    this.button = make("button", {type: "button", "aria-pressed": "false"}, this.tools, "Lasso");
    this.button.addEventListener("click", () => this.lasso(!this.lassoing));
    this.stage.addEventListener("click", (event) => {
      if (this.dragged || this.path) return;
      const box = this.stage.getBoundingClientRect();
      this.pick(event.clientX - box.left, event.clientY - box.top);
    });
    this.stage.addEventListener("pointerup", () => this.close());
    this.overlay = shape("g", {}, this.svg);
  }

  room() { return printing ? 690 : this.stage.clientWidth || 600; }

  lasso(on) {
    this.lassoing = on;
    this.button.setAttribute("aria-pressed", String(on));
    this.stage.classList.toggle("lasso", on);
  }

  /** Choose the cell at a place, or else the place itself: a mean of the latents around it. */
  pick(x, y) {
    const found = this.find(x, y);
    if (found) { this.picked({cells: [found.cell], title: report.names[found.cell]}); return; }
    const [across, up] = this.scales(), {space} = this, near = [];
    for (let i = 0; i < N; i++) near.push([Math.hypot(across(space.x[i]) - x, up(space.y[i]) - y), i]);
    near.sort((a, b) => a[0] - b[0]);
    this.picked({around: near.slice(0, 10), title: "a place on the map"}, [x, y]);
  }

  drag(event) {
    if (!this.lassoing) { super.drag(event); return; }
    if (!this.fingers.has(event.pointerId)) return;
    event.preventDefault();
    const box = this.stage.getBoundingClientRect();
    (this.path ||= []).push([event.clientX - box.left, event.clientY - box.top]);
    this.mark_chosen();
  }

  /** End a lasso: choose the cells within. */
  close() {
    const {path} = this;
    if (!path) return;
    setTimeout(() => { this.path = null; this.mark_chosen(); });
    const [across, up] = this.scales(), {space} = this;
    const cells = range(N).filter((i) => within(path, across(space.x[i]), up(space.y[i])));
    this.lasso(false);
    if (cells.length) this.picked({cells, title: `${cells.length.toLocaleString("en")} cells of a lasso`});
  }

  /** Show which cells are chosen; all others are grey. */
  choose_cells(cells, place) {
    this.chosen = cells && cells.length < N ? Uint8Array.from({length: N}, () => 0) : null;
    if (this.chosen) for (const cell of cells) this.chosen[cell] = 1;
    const [across, up] = this.scales();
    this.place = place ? [(place[0] - across(0)) / (across(FULL) - across(0)), (place[1] - up(0)) / (up(FULL) - up(0))] : cells?.length === 1
      ? [this.space.x[cells[0]] / FULL, this.space.y[cells[0]] / FULL] : null;
    this.soon();
  }

  layers(radius, missing) {
    const {groups, sprites} = super.layers(radius, missing);
    if (!this.chosen) return {groups, sprites};
    const grey = [], kept = groups.map((cells) => cells.filter((cell) => this.chosen[cell] || !grey.push(cell)));
    return {groups: [grey, ...kept], sprites: [this.sprite(missing, 0, radius), ...sprites]};
  }

  paint() {
    super.paint();
    this.mark_chosen();
  }

  /** Draw the lasso, and a ring around the chosen cell or place. */
  mark_chosen() {
    const {ink, ground} = theme(), [across, up] = this.scales();
    this.overlay.replaceChildren();
    this.svg.append(this.overlay);
    if (this.path) shape("polygon", {points: this.path.map((at) => at.map((v) => v.toFixed(1)).join(",")).join(" "), fill: ink, "fill-opacity": 0.08, stroke: ink, "stroke-width": 1.5}, this.overlay);
    if (!this.place) return;
    const x = across(this.place[0] * FULL), y = up(this.place[1] * FULL);
    for (const [r, stroke, width] of [[9, ground, 5], [9, ink, 2.4]]) shape("circle", {cx: x, cy: y, r, fill: "none", stroke, "stroke-width": width}, this.overlay);
  }

  describe(cell) { return [report.names[cell], ...super.describe(cell).map((line) => (Array.isArray(line) ? line : line.split(/: (.*)/s).slice(0, 2)))]; }

  pressed(event) {
    if (event.key !== "Enter" || event.target !== this.stage) { super.pressed(event); return; }
    event.preventDefault();
    const [across, up] = this.scales(), {space} = this;
    let best = 0, least = Infinity;
    for (let i = 0; i < N; i++) {
      const far = Math.hypot(across(space.x[i]) - this.width / 2, up(space.y[i]) - this.height / 2);
      if (far < least) [best, least] = [i, far];
    }
    this.picked({cells: [best], title: report.names[best]});
  }

  /** Colour by what the decoder predicts of a gene, in each cell's own condition. */
  colour_gene(gene) {
    const name = `${report.genes[gene]} (predicted)`;
    if (!this.fields.some((field) => field.name === name)) {
      const values = Float32Array.from({length: N}, (_, i) => {
        const cell = cellAt(i), value = decoder.decodeGene(gene, cell.z, cell.own, cell.own, report.size, logSums?.[i]);
        return report.counts ? Math.log1p(value) : value;
      });
      let low = Infinity, high = -Infinity;
      for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
      const codes = Uint16Array.from(values, (value) => Math.round((value - low) / (high - low || 1) * FULL));
      this.fields.push({name, kind: "number", values: codes, low, high});
      make("option", {value: this.fields.length - 1}, this.select, name);
    }
    this.colour(name);
  }
}

/** Whether a point lies in a polygon. */
function within(path, x, y) {
  let inside = false;
  path.forEach(([x1, y1], i) => {
    const [x2, y2] = path[(i + 1) % path.length];
    if (y1 > y !== y2 > y && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1) inside = !inside;
  });
  return inside;
}
