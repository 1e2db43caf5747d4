/* What every chart does: keeps its size, its layers, its legend, and tells what is under the pointer. */
class Chart {
  constructor(figure, spec) {
    Object.assign(this, {figure, spec, hidden: new Set(), items: [], at: -1});
    this.stage = figure.querySelector(".stage");
    this.tools = figure.querySelector(".tools");
    this.legend = figure.querySelector(".legend");
    this.canvas = make("canvas", {"aria-hidden": "true"}, this.stage);
    this.svg = shape("svg", {"aria-hidden": "true"}, this.stage);
    this.stage.addEventListener("pointermove", (event) => this.moved(event));
    this.stage.addEventListener("pointerdown", (event) => this.moved(event));
    this.stage.addEventListener("pointerleave", () => this.left());
    this.stage.addEventListener("blur", () => this.left());
    this.stage.addEventListener("keydown", (event) => this.pressed(event));
  }

  /** The width that the page gives; on paper, that of a column or of the whole, so that letters keep their size. */
  room() {
    if (!printing) return this.stage.clientWidth || 600;
    return this.figure.matches(".charts:not(.paired) > .map, .lines:only-child, .bars:only-child") ? 690 : 335;
  }

  /** Clear the layers, at the size that the page gives. */
  open(height) {
    this.width = this.room();
    this.height = height;
    this.dots = Math.min(Math.max(devicePixelRatio || 1, printing ? 2 : 1), 3);
    this.stage.style.height = `${height}px`;
    this.stage.style.setProperty("--shape", `${this.width} / ${height}`);
    this.canvas.width = Math.round(this.width * this.dots);
    this.canvas.height = Math.round(height * this.dots);
    this.canvas.style.height = `${height}px`;
    this.pen = this.canvas.getContext("2d");
    this.pen.setTransform(this.dots, 0, 0, this.dots, 0, 0);
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.style.height = `${height}px`;
    this.spot = shape("g");
  }

  /** Draw both axes of a plane; returns its scales. */
  plane(x, y, margin = {left: 54, right: 14, top: 10, bottom: 44}) {
    const {ink, quiet, line} = theme();
    const across = scale(...x, margin.left, this.width - margin.right);
    const up = scale(...y, this.height - margin.bottom, margin.top);
    const axes = shape("g", {"font-size": 11.5, fill: quiet}, this.svg);
    for (const at of ticks(...y, this.height / 60)) {
      shape("line", {x1: margin.left, x2: this.width - margin.right, y1: up(at), y2: up(at), stroke: line}, axes);
      shape("text", {x: margin.left - 8, y: up(at) + 4, "text-anchor": "end"}, axes, tickText(at));
    }
    for (const at of ticks(...x, Math.max(4, this.width / 90))) {
      shape("line", {x1: across(at), x2: across(at), y1: up(y[0]), y2: up(y[0]) + 4, stroke: quiet}, axes);
      shape("text", {x: across(at), y: up(y[0]) + 18, "text-anchor": "middle"}, axes, tickText(at));
    }
    shape("line", {x1: margin.left, x2: this.width - margin.right, y1: up(y[0]), y2: up(y[0]), stroke: quiet}, axes);
    const middle = (margin.left + this.width - margin.right) / 2;
    shape("text", {x: middle, y: this.height - 6, "text-anchor": "middle", fill: ink}, axes, fitted(this.spec.x_label || "", this.width - margin.left, 11.5));
    const half = (margin.top + this.height - margin.bottom) / 2;
    shape("text", {transform: `translate(13 ${Math.min(half, this.height / 2)}) rotate(-90)`, "text-anchor": "middle", fill: ink}, axes, fitted(this.spec.y_label || "", this.height - 14, 11.5));
    if (this.spec.diagonal) {
      const [from, to] = [Math.max(x[0], y[0]), Math.min(x[1], y[1])];
      if (to > from) shape("line", {x1: across(from), y1: up(from), x2: across(to), y2: up(to), stroke: quiet, "stroke-dasharray": "4 4", class: "agreement"}, this.svg);
    }
    return {across, up, margin};
  }

  /** A row of names that can be hidden and shown. */
  names(entries) {
    if (entries.length < 2) return;
    this.legend.replaceChildren(...entries.map(({name, icon, count}) => {
      const button = make("button", {type: "button", title: name, "aria-pressed": String(!this.hidden.has(name))});
      button.append(icon);
      make("span", {}, button, name);
      if (count !== undefined) make("small", {}, button, count.toLocaleString("en"));
      button.addEventListener("click", () => this.toggle(name));
      button.addEventListener("dblclick", () => this.only(name, entries));
      return button;
    }));
  }

  toggle(name) {
    if (!this.hidden.delete(name)) this.hidden.add(name);
    this.redraw();
  }

  only(name, entries) {
    this.hidden = new Set(entries.map((entry) => entry.name).filter((other) => other !== name));
    this.redraw();
  }

  redraw() {
    const place = [...this.legend.children].indexOf(document.activeElement);
    this.left();
    this.draw();
    if (place >= 0) this.legend.children[place]?.focus();
  }

  moved(event) {
    const box = this.stage.getBoundingClientRect();
    const item = this.find(event.clientX - box.left, event.clientY - box.top);
    if (!item) { this.left(); return; }
    this.mark(item);
    tip.show(event.clientX, event.clientY, item.lines);
  }

  /** The item that is nearest, within a few pixels. */
  find(x, y) {
    let best = null, least = 22 ** 2;
    for (const item of this.items) {
      const far = (item.x - x) ** 2 + (item.y - y) ** 2;
      if (far < least) [best, least] = [item, far];
    }
    return best;
  }

  mark(item) {
    this.spot.replaceChildren();
    shape("circle", {cx: item.x, cy: item.y, r: 6, fill: "none", stroke: theme().ink, "stroke-width": 2}, this.spot);
    this.svg.append(this.spot);
  }

  left() {
    tip.hide();
    this.spot?.replaceChildren();
  }

  /** Arrow keys go from item to item. */
  pressed(event) {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (event.key === "Escape") this.left();
    if (!step || !this.items.length) return;
    event.preventDefault();
    this.at = (this.at + step + this.items.length) % this.items.length;
    const item = this.items[this.at], box = this.stage.getBoundingClientRect();
    this.mark(item);
    tip.show(box.left + item.x, box.top + item.y, item.lines);
  }
}

/** The ends of some numbers, with a little room. */
function ends(values, room = 0.04) {
  let low = Infinity, high = -Infinity;
  for (const value of values) if (value !== null && Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low > high) return [0, 1];
  const space = room && ((high - low) * room || Math.abs(high) * 0.1 || 1);
  return [low - space, high + space];
}
