/* The two pictures of a result: the change of every gene, and one gene over categories or doses. */
const RISES = () => theme().palette[3], FALLS = () => theme().palette[0];
const MOST_POINTS = 4000, NAMED = 12;

class Volcano extends Chart {
  constructor(figure, picked) {
    super(figure, {});
    this.picked = picked;
    this.stage.addEventListener("click", (event) => {
      const box = this.stage.getBoundingClientRect(), item = this.find(event.clientX - box.left, event.clientY - box.top);
      if (item) this.picked(item.gene);
    });
  }

  /** Show points {gene, x, y, sure}; those of a highlighted set have rings. */
  show(points, labels, lit = null) {
    Object.assign(this, {points, lit, spec: labels});
    this.redraw();
  }

  draw() {
    if (!this.points) return;
    const {ink, quiet, ground} = theme(), {points} = this;
    this.open(Math.min(560, Math.max(320, this.room() * 1.1)));
    const far = Math.max(1e-3, ...points.map(({x}) => Math.abs(x))) * 1.08;
    const {across, up, margin} = this.plane([-far, far], ends(points.map(({y}) => y)));
    shape("line", {x1: across(0), x2: across(0), y1: margin.top, y2: this.height - margin.bottom, stroke: quiet, "stroke-dasharray": "2 3"}, this.svg);
    if (this.spec.level) shape("line", {x1: margin.left, x2: this.width - margin.right, y1: up(this.spec.level), y2: up(this.spec.level), stroke: quiet, "stroke-dasharray": "2 3"}, this.svg);
    const order = [...points].sort((a, b) => Math.abs(b.x) - Math.abs(a.x)), shown = order.slice(0, MOST_POINTS).reverse();
    const group = shape("g", {}, this.svg);
    for (const {gene, x, y, sure} of shown) {
      const colour = !sure ? quiet : x > 0 ? RISES() : FALLS();
      const isLit = this.lit?.has(gene);
      shape("circle", {cx: across(x).toFixed(1), cy: up(y).toFixed(1), r: isLit ? 4.5 : sure ? 3.2 : 2.4, fill: colour, "fill-opacity": sure || isLit ? 0.85 : 0.35, stroke: isLit ? ink : "", "stroke-width": isLit ? 1.4 : ""}, group);
    }
    this.items = shown.map((point) => ({gene: point.gene, x: across(point.x), y: up(point.y), lines: [report.genes[point.gene], [this.spec.x_label, brief(point.x)], [this.spec.y_label, brief(point.y)]]})).reverse();
    const taken = [];
    for (const {gene, x, y} of order.slice(0, NAMED)) {
      const name = report.genes[gene], width = widthOf(name, 11.5), left = x > 0 ? across(x) - 6 - width : across(x) + 6;
      const box = [left, up(y) - 9, left + width, up(y) + 5];
      const spot = [0, -13, 13].map((dy) => [box[0], box[1] + dy, box[2], box[3] + dy]).find((b) => b[0] > margin.left && b[2] < this.width && b[1] > 0
        && !taken.some((other) => b[0] < other[2] && b[2] > other[0] && b[1] < other[3] && b[3] > other[1]));
      if (!spot) continue;
      taken.push(spot);
      shape("text", {x: spot[0], y: spot[1] + 12, "font-size": 11.5, fill: ink, stroke: ground, "stroke-width": 3, "paint-order": "stroke"}, this.svg, name);
    }
  }

  pressed(event) {
    if (event.key === "Enter" && this.at >= 0 && this.items[this.at]) { event.preventDefault(); this.picked(this.items[this.at].gene); }
    else super.pressed(event);
  }
}

/* One gene: a row for each category, or a curve over doses. */
class GeneCurve extends Chart {
  show(rows, labels, doses) {
    Object.assign(this, {rows, doses, spec: labels});
    this.redraw();
  }

  draw() {
    if (!this.rows) return;
    if (this.doses) this.curve();
    else this.bars();
  }

  bars() {
    const {ink, quiet, line, palette} = theme(), {rows} = this;
    const names = Math.min(180, this.room() * 0.4, 12 + Math.max(...rows.map(({name}) => widthOf(name, 12))));
    const step = rows.length > 24 ? 18 : 26, top = 8;
    this.open(top + step * rows.length + 46);
    const [low, high] = ends(rows.flatMap(({value, low: from, high: to}) => [0, value, from ?? value, to ?? value]), 0.05);
    const across = scale(low, high, names, this.width - 58), bottom = top + step * rows.length;
    const axes = shape("g", {"font-size": 11.5, fill: quiet}, this.svg);
    for (const at of ticks(across.low, across.high, Math.max(3, (this.width - names) / 90))) {
      shape("line", {x1: across(at), x2: across(at), y1: top, y2: bottom, stroke: line}, axes);
      shape("text", {x: across(at), y: bottom + 16, "text-anchor": "middle"}, axes, tickText(at));
    }
    shape("line", {x1: across(0), x2: across(0), y1: top, y2: bottom, stroke: quiet, "stroke-dasharray": "2 3"}, axes);
    shape("text", {x: this.width, y: bottom + 16, "text-anchor": "end"}, axes, this.spec.unit);
    shape("text", {x: (names + this.width - 58) / 2, y: bottom + 38, "text-anchor": "middle", fill: ink}, axes, fitted(this.spec.x_label, this.width - names, 11.5));
    this.items = rows.map((row, i) => {
      const y = top + step * (i + 0.5), faded = row.support?.isUnseen ? 0.35 : 1;
      const group = shape("g", {opacity: faded}, this.svg);
      shape("text", {x: names - 10, y: y + 4, "text-anchor": "end", "font-size": 12, fill: ink, "font-weight": row.isB ? 700 : 400}, group, fitted(row.name, names - 12, 12));
      shape("text", {x: this.width, y: y + 4, "text-anchor": "end", "font-size": 11.5, fill: quiet}, group, brief(row.mean));
      this.dot(group, across, y, row, palette[0]);
      return {x: across(row.value), y, lines: this.lines(row.name, row)};
    });
  }

  dot(group, across, y, row, colour) {
    if (row.low !== undefined) {
      shape("line", {x1: across(row.low), x2: across(row.high), y1: y, y2: y, stroke: colour, "stroke-width": 2.4, "stroke-linecap": "round"}, group);
      shape("circle", {cx: across(row.answer), cy: y, r: 4.6, fill: colour}, group);
    }
    shape("circle", {cx: across(row.value), cy: y, r: 4.2, fill: theme().ground, stroke: colour, "stroke-width": 2}, group);
  }

  lines(name, row) {
    const found = [name, ["decoder", `${brief(row.value)} (${brief(row.mean)} ${this.spec.unit})`]];
    if (row.low !== undefined) found.push(["answer", `${brief(row.answer)} (${brief(row.low)} to ${brief(row.high)})`]);
    if (row.support !== null) found.push(["support", brief(row.support.share)]);
    return found;
  }

  curve() {
    const {palette, quiet} = theme(), {rows} = this, colour = palette[0];
    this.open(Math.min(340, Math.max(240, this.room() * 0.55)));
    const positive = rows.filter(({dose}) => dose > 0).map(({dose}) => dose);
    const isLog = this.doses.is_dose && positive.length > 2, least = Math.min(...positive), zero = Math.log10(least) - Math.max(0.5, (Math.log10(Math.max(...positive)) - Math.log10(least)) * 0.12);
    const place = (dose) => (isLog ? (dose > 0 ? Math.log10(dose) : zero) : dose);
    const {across, up, margin} = this.plane_of(ends(rows.map(({dose}) => place(dose)), 0.02), ends(rows.flatMap(({value, low, high}) => [value, low ?? value, high ?? value])), isLog);
    const text = (dose, at) => shape("text", {x: across(at), y: this.height - margin.bottom + 18, "text-anchor": "middle", "font-size": 11.5, fill: quiet}, this.svg, tickText(dose));
    if (isLog) {
      text(0, zero);
      for (let power = Math.ceil(Math.log10(least) - 1e-9); power <= Math.log10(Math.max(...positive)) + 1e-9; power++) text(10 ** power, power);
    }
    shape("path", {d: rows.map(({dose, value}, i) => `${i ? "L" : "M"}${across(place(dose)).toFixed(1)} ${up(value).toFixed(1)}`).join(""), fill: "none", stroke: colour, "stroke-width": 2.2, "stroke-linejoin": "round"}, this.svg);
    this.items = rows.map((row) => ({x: across(place(row.dose)), y: up(row.value), lines: this.lines(`${this.doses.name} ${brief(row.dose)}`, row)}));
    for (const row of rows) {
      const x = across(place(row.dose));
      if (row.low !== undefined) {
        shape("line", {x1: x, x2: x, y1: up(row.low), y2: up(row.high), stroke: colour, "stroke-width": 2.2, "stroke-linecap": "round"}, this.svg);
        shape("circle", {cx: x, cy: up(row.answer), r: 4.4, fill: colour}, this.svg);
      }
      if (row.isB) shape("circle", {cx: x, cy: up(row.value), r: 5, fill: theme().ground, stroke: colour, "stroke-width": 2.2}, this.svg);
    }
  }

  /** As plane, without numbers on a logarithmic axis, which the curve writes itself. */
  plane_of(x, y, isLog) {
    const found = this.plane(x, y);
    if (isLog) for (const text of this.svg.querySelectorAll("text[text-anchor=middle]:not([transform])")) if (Number(text.getAttribute("y")) < this.height - 10) text.remove();
    return found;
  }
}

/** A picture as the text of an SVG file, with its ground and its letters. */
function svgText(chart) {
  const copy = chart.svg.cloneNode(true), {ground} = theme();
  copy.querySelectorAll("g:empty").forEach((node) => node.remove());
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", chart.width);
  copy.setAttribute("height", chart.height);
  copy.setAttribute("font-family", "Helvetica, Arial, sans-serif");
  copy.removeAttribute("style");
  copy.prepend(shape("rect", {width: chart.width, height: chart.height, fill: ground}));
  return new XMLSerializer().serializeToString(copy);
}
