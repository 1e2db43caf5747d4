/* Cells in two dimensions, coloured by any field; tens of thousands of them. */
const FULL = 65534, ABSENT = 65535, UNNAMED = 255, BINS = 128, SHADES = 40;

class CellMap extends Chart {
  constructor(figure, spec) {
    super(figure, spec);
    this.spaces = spec.spaces.map(({name, x, y}) => ({name, x: array(x), y: array(y)}));
    this.fields = spec.fields.map((field) => ({...field, values: array(field.kind === "number" ? field.values : field.codes)}));
    this.space = this.spaces[0];
    this.field = this.fields[0] || null;
    this.view = {x: 0, y: 0, zoom: 1};
    this.fingers = new Map();
    this.hint = make("div", {class: "hint"}, this.stage, "Click the map, then zoom with the wheel");
    this.controls();
    this.gestures();
    this.stage.setAttribute("aria-roledescription", "interactive map; arrow keys move, plus and minus zoom, 0 resets");
  }

  controls() {
    if (this.spaces.length > 6) {
      const select = make("select", {}, make("label", {}, this.tools, "Map"));
      this.spaces.forEach((space, i) => make("option", {value: i}, select, space.name));
      select.addEventListener("change", () => this.choose(this.spaces[select.value]));
    } else if (this.spaces.length > 1) {
      const row = make("div", {class: "choice", role: "group", "aria-label": "Map"}, this.tools);
      this.choices = this.spaces.map((space) => {
        const button = make("button", {type: "button", "aria-pressed": String(space === this.space)}, row, space.name);
        button.addEventListener("click", () => this.choose(space));
        return button;
      });
    }
    if (this.fields.length) {
      const label = make("label", {}, this.tools, "Colour by");
      this.select = make("select", {}, label);
      this.fields.forEach((field, i) => make("option", {value: i}, this.select, field.name));
      this.select.addEventListener("change", () => linked(this, (map) => map.colour(this.field_named(this.select))));
    }
    const zoom = make("div", {class: "zoom", role: "group", "aria-label": "Zoom"}, this.stage);
    for (const [sign, name, act] of [["−", "Zoom out", () => this.zoomed(1 / 1.6)], ["+", "Zoom in", () => this.zoomed(1.6)], ["Reset", "Show all", () => this.reset()]]) {
      const button = make("button", {type: "button", "aria-label": name, title: name}, zoom, sign);
      button.addEventListener("click", act);
      for (const event of ["pointerdown", "pointermove", "dblclick", "keydown"]) button.addEventListener(event, (e) => e.stopPropagation());
    }
  }

  field_named(select) { return select.options[select.selectedIndex].textContent; }

  choose(space) {
    this.space = space;
    this.choices?.forEach((button, i) => button.setAttribute("aria-pressed", String(this.spaces[i] === space)));
    this.view = {x: 0, y: 0, zoom: 1};
    this.redraw();
  }

  colour(name) {
    const field = this.fields.find((each) => each.name === name);
    if (!field) return;
    this.field = field;
    this.select.value = String(this.fields.indexOf(field));
    this.hidden = new Set();
    this.redraw();
  }

  draw() {
    const width = this.room();
    this.open(Math.round(Math.min(580, Math.max(320, width * (printing ? 0.6 : 0.72)))));
    this.svg.append(this.spot);
    this.paint();
    this.tell();
  }

  /** Draw the cells: those without a value beneath, the rarest category or the largest number on top. */
  paint() {
    const {pen, space} = this, {missing} = theme();
    pen.clearRect(0, 0, this.width, this.height);
    const radius = Math.min(7, Math.max(1.2, Math.min(4.5, Math.sqrt(15000 / Math.max(this.spec.n, 1)))) * Math.min(2.2, Math.sqrt(this.view.zoom)));
    const {groups, sprites} = this.layers(radius, missing);
    pen.globalAlpha = this.spec.n > 20000 ? 0.75 : 0.88;
    const half = radius + 2, [across, up] = this.scales();
    groups.forEach((cells, layer) => {
      const sprite = sprites[layer];
      for (const cell of cells) {
        if (space.x[cell] === ABSENT) continue;
        const x = across(space.x[cell]), y = up(space.y[cell]);
        if (x > -half && y > -half && x < this.width + half && y < this.height + half) pen.drawImage(sprite, x - half, y - half, 2 * half, 2 * half);
      }
    });
    pen.globalAlpha = 1;
  }

  /** Cells of one look each, from the lowest layer to the highest, and those looks. */
  layers(radius, missing) {
    const {field} = this, {palette, numbers} = theme();
    if (!field) return {groups: [range(this.spec.n)], sprites: [this.sprite(palette[0], 0, radius)]};
    const kept = this.split(field);
    const looks = [this.sprite(missing, 0, radius)], groups = [kept.missing];
    if (field.kind === "number") {
      kept.groups.forEach((cells, i) => { groups.push(cells); looks.push(this.sprite(ramp(numbers, (i + 0.5) / SHADES), 0, radius)); });
      return {groups, sprites: looks};
    }
    const order = field.names.map((_, i) => i).filter((i) => !this.hidden.has(field.names[i])).sort((a, b) => kept.groups[b].length - kept.groups[a].length);
    const faded = this.lit !== undefined && order.includes(this.lit);
    for (const i of faded ? [...order.filter((each) => each !== this.lit), this.lit] : order) {
      groups.push(kept.groups[i]);
      looks.push(faded && i !== this.lit ? this.sprite(missing, Math.floor(i / 10), radius) : this.sprite(palette[i % 10], Math.floor(i / 10), radius));
    }
    return {groups, sprites: looks};
  }

  /** Group the cells by category, or by shade between the 1st and the 99th percentile; done once a field. */
  split(field) {
    if (field.split) return field.split;
    const absent = field.kind === "number" ? ABSENT : UNNAMED, missing = [];
    let groupOf = (value) => value, n = field.names?.length;
    if (field.kind === "number") {
      const known = Uint16Array.from(field.values.filter((value) => value !== ABSENT)).sort();
      const [low, high] = [known[Math.floor(0.01 * (known.length - 1))] ?? 0, known[Math.ceil(0.99 * (known.length - 1))] ?? FULL];
      const real = (code) => field.low + code / FULL * (field.high - field.low);
      field.shown = [real(low), real(high)];
      groupOf = (value) => Math.min(SHADES - 1, Math.max(0, Math.floor((value - low) / (high - low || 1) * SHADES)));
      n = SHADES;
    }
    const groups = Array.from({length: n}, () => []);
    field.values.forEach((value, cell) => (value === absent ? missing : groups[groupOf(value)]).push(cell));
    return field.split = {groups, missing};
  }

  sprite(colour, marker, radius) {
    const size = Math.ceil(2 * (radius + 2) * this.dots), canvas = make("canvas", {width: size, height: size});
    const pen = canvas.getContext("2d");
    drawMarker(pen, marker, size / 2, size / 2, radius * this.dots, colour);
    return canvas;
  }

  scales() {
    const room = 18, {x, y, zoom} = this.view;
    return [(code) => room + code / FULL * (this.width - 2 * room) * zoom + x, (code) => this.height - room - code / FULL * (this.height - 2 * room) * zoom + y];
  }

  /** The legend: categories to hide and show, or the scale of numbers. */
  tell() {
    const {field} = this;
    this.legend.replaceChildren();
    if (!field) return;
    const kept = this.split(field);
    if (field.kind === "number") { this.shades(field); return; }
    this.names(field.names.map((name, i) => ({name, icon: this.icon(i), count: kept.groups[i].length})));
    [...this.legend.children].forEach((button, i) => {
      for (const [event, lit] of [["pointerenter", i], ["focus", i], ["pointerleave", undefined], ["blur", undefined]]) {
        button.addEventListener(event, (e) => { if (e.pointerType !== "touch") { this.lit = lit; this.soon(); } });
      }
    });
  }

  shades(field) {
    const box = make("div", {class: "scale"}, this.legend), canvas = make("canvas", {width: 200, height: 1}, box), pen = canvas.getContext("2d");
    for (let i = 0; i < 200; i++) { pen.fillStyle = ramp(theme().numbers, i / 199); pen.fillRect(i, 0, 1, 1); }
    const row = make("div", {}, box);
    field.shown.forEach((value) => make("span", {}, row, brief(value)));
  }

  icon(i) {
    const canvas = make("canvas", {width: 28, height: 28, "aria-hidden": "true"});
    canvas.style.cssText = "width:14px;height:14px;flex:none";
    drawMarker(canvas.getContext("2d"), Math.floor(i / 10), 14, 14, 9, theme().palette[i % 10]);
    return canvas;
  }

  /* ---- what is under the pointer ---- */

  find(x, y) {
    if (this.fingers.size > 1 || this.dragged) return null;
    const [across, up] = this.scales(), room = 18, reach = 12, {space, field} = this;
    const perX = (this.width - 2 * room) * this.view.zoom / FULL, perY = (this.height - 2 * room) * this.view.zoom / FULL;
    const [cx, cy] = [(x - across(0)) / perX, (up(0) - y) / perY];
    let best = -1, least = reach ** 2;
    for (const cell of this.near(cx, cy, reach / perX, reach / perY)) {
      if (field?.kind === "category" && this.hidden.has(field.names[field.values[cell]])) continue;
      const far = (across(space.x[cell]) - x) ** 2 + (up(space.y[cell]) - y) ** 2;
      if (far < least) [best, least] = [cell, far];
    }
    return best < 0 ? null : {cell: best, x: across(space.x[best]), y: up(space.y[best]), lines: this.describe(best)};
  }

  /** Cells in the tiles around a place; the tiles are made once a space. */
  * near(cx, cy, dx, dy) {
    const {space} = this, tile = (code) => Math.min(BINS - 1, Math.max(0, Math.floor(code / (FULL + 1) * BINS)));
    if (!space.tiles) {
      space.tiles = Array.from({length: BINS * BINS}, () => null);
      space.x.forEach((code, cell) => { if (code !== ABSENT) (space.tiles[tile(space.y[cell]) * BINS + tile(code)] ||= []).push(cell); });
    }
    for (let i = tile(cy - dy); i <= tile(cy + dy); i++) for (let j = tile(cx - dx); j <= tile(cx + dx); j++) yield* space.tiles[i * BINS + j] || [];
  }

  describe(cell) {
    const say = (field) => {
      const code = field.values[cell];
      if (field.kind === "number") return code === ABSENT ? "–" : brief(field.low + code / FULL * (field.high - field.low));
      return code === UNNAMED ? "–" : field.names[code];
    };
    const others = this.fields.filter((field) => field !== this.field).slice(0, 9);
    return this.field ? [`${this.field.name}: ${say(this.field)}`, ...others.map((field) => [field.name, say(field)])] : [`cell ${cell + 1}`];
  }

  /* ---- moving and zooming ---- */

  gestures() {
    const {stage} = this;
    stage.addEventListener("pointerdown", (event) => {
      this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
      this.dragged = false;
      stage.classList.add("active");
    });
    addEventListener("pointerup", (event) => { this.fingers.delete(event.pointerId); stage.classList.remove("held"); setTimeout(() => { this.dragged = false; }); });
    addEventListener("pointercancel", (event) => this.fingers.delete(event.pointerId));
    addEventListener("pointerdown", (event) => { if (!stage.contains(event.target)) stage.classList.remove("active"); });
    stage.addEventListener("pointermove", (event) => this.drag(event));
    stage.addEventListener("wheel", (event) => {
      if (!stage.classList.contains("active") && !event.ctrlKey && !event.metaKey) { this.remind(); return; }
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      this.zoomed(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0018)), event.clientX - box.left, event.clientY - box.top);
    }, {passive: false});
    stage.addEventListener("dblclick", (event) => {
      const box = stage.getBoundingClientRect();
      this.zoomed(2, event.clientX - box.left, event.clientY - box.top);
    });
  }

  drag(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before || (event.pointerType === "touch" && this.fingers.size < 2)) return;
    const others = [...this.fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    const now = [event.clientX, event.clientY];
    if (!this.dragged && !others.length && Math.hypot(now[0] - before[0], now[1] - before[1]) < 4) return;
    if (others.length) {
      const box = this.stage.getBoundingClientRect(), far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
      this.zoomed(far(now, others[0]) / Math.max(far(before, others[0]), 1), (now[0] + others[0][0]) / 2 - box.left, (now[1] + others[0][1]) / 2 - box.top);
    }
    const share = others.length ? 0.5 : 1;
    this.dragged = true;
    this.stage.classList.add("held");
    this.fingers.set(event.pointerId, now);
    this.view.x += (now[0] - before[0]) * share;
    this.view.y += (now[1] - before[1]) * share;
    this.left();
    this.soon();
  }

  /** Zoom about a place that stays where it is. */
  zoomed(times, x = this.width / 2, y = this.height / 2) {
    const zoom = Math.min(60, Math.max(0.8, this.view.zoom * times)), [across, up] = this.scales();
    const real = zoom / this.view.zoom, [ox, oy] = [across(0) - this.view.x, up(0) - this.view.y];
    this.view = {zoom, x: x - ox - (x - ox - this.view.x) * real, y: y - oy - (y - oy - this.view.y) * real};
    this.left();
    this.soon();
  }

  reset() {
    this.view = {x: 0, y: 0, zoom: 1};
    this.soon();
  }

  remind() {
    this.hint.classList.add("shown");
    clearTimeout(this.reminded);
    this.reminded = setTimeout(() => this.hint.classList.remove("shown"), 1400);
  }

  soon() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paint());
  }

  pressed(event) {
    const move = {ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40]}[event.key];
    if (move) { this.view.x += move[0]; this.view.y += move[1]; this.soon(); }
    else if (event.key === "+" || event.key === "=") this.zoomed(1.4);
    else if (event.key === "-") this.zoomed(1 / 1.4);
    else if (event.key === "0") this.reset();
    else return;
    event.preventDefault();
  }
}

const range = (n) => Array.from({length: n}, (_, i) => i);

/** Do something to a map and to the others of its section, which show the same cells. */
function linked(map, act) {
  const section = map.figure.closest("section");
  charts.filter((chart) => chart instanceof CellMap && chart.figure.closest("section") === section).forEach(act);
}
