/* A number for each of some names: bars for runs, hatched bars for baselines, a tick for a ceiling. */
class Bars extends Chart {
  draw() {
    const {names, series} = this.spec;
    const all = series.map((each) => each.name);
    const shown = series.filter((each) => !this.hidden.has(each.name));
    const solid = shown.filter((each) => styleOf(each.name, all).role !== "ceiling");
    const many = names.length > 40; // then bars touch, and only some names are written
    const thick = Math.max(many ? 2 : 6, Math.min(14, 400 / Math.max(names.length * solid.length, 1)));
    this.gap = many ? 1 : names.length > 20 ? 4 : 12;
    this.lane = many ? thick : thick + 2;
    const group = Math.max(1, solid.length) * this.lane + this.gap;
    this.open(names.length * group + 46);
    const left = Math.min(Math.max(...names.map((name) => widthOf(name, 12)), 30) + 12, this.width * 0.36);
    const values = series.flatMap((each) => [...each.values, ...(each.low || []), ...(each.high || [])]);
    const [low, high] = ends([0, ...values], 0.0);
    const room = (high - low) * 0.07 || 1;
    const across = scale(low < 0 ? low - room : 0, high > 0 ? high + room : 0, left, this.width - 14);
    this.frame(across, left, names, group);
    this.items = [];
    shown.forEach((each) => {
      const style = styleOf(each.name, all), row = solid.indexOf(each);
      names.forEach((name, i) => each.values[i] !== null && this.bar(each, style, name, i, 8 + i * group, row, thick, group, across));
    });
    this.items.sort((a, b) => a.y - b.y);
    this.names(series.map(({name}) => ({name, icon: this.icon(styleOf(name, all))})));
  }

  frame(across, left, names, group) {
    const {quiet, ink, line} = theme(), foot = this.height - 40;
    const axes = shape("g", {"font-size": 11.5, fill: quiet}, this.svg);
    for (const at of ticks(across.low, across.high, (this.width - left) / 80)) {
      shape("line", {x1: across(at), x2: across(at), y1: 2, y2: foot, stroke: at === 0 ? quiet : line}, axes);
      shape("text", {x: across(at), y: foot + 16, "text-anchor": "middle"}, axes, tickText(at));
    }
    shape("text", {x: (left + this.width) / 2, y: this.height - 6, "text-anchor": "middle", fill: ink}, axes, this.spec.x_label);
    const step = Math.ceil(13 / group);
    names.forEach((name, i) => {
      if (i % step) return;
      const text = shape("text", {x: left - 8, y: 8 + i * group + (group - this.gap) / 2 + 3, "text-anchor": "end", "font-size": 12, fill: ink}, axes, fitted(name, left - 10, 12));
      shape("title", {}, text, name);
    });
  }

  bar(each, {colour, role}, name, i, top, row, thick, group, across) {
    const value = each.values[i], zero = across(Math.min(Math.max(0, across.low), across.high)), end = across(value), {ink} = theme();
    const y = top + row * this.lane;
    const has = each.low && each.low[i] !== null && each.high[i] !== null;
    const lines = [name, [each.name, brief(value)], ...(has ? [["interval", `${brief(each.low[i])} to ${brief(each.high[i])}`]] : [])];
    if (role === "ceiling") {
      shape("line", {x1: end, x2: end, y1: top - 3, y2: top + group - this.gap + 1, stroke: colour, "stroke-width": 2.6, "stroke-dasharray": "5 2"}, this.svg);
      this.items.push({x: end, y: top + (group - this.gap) / 2, lines});
      return;
    }
    shape("rect", {x: Math.min(zero, end), y, width: Math.max(Math.abs(end - zero), 1), height: thick, rx: 2, ...this.paint(colour, role)}, this.svg);
    if (has) {
      const [from, to, middle] = [across(each.low[i]), across(each.high[i]), y + thick / 2];
      shape("path", {d: `M${from} ${middle}H${to}M${from} ${middle - 3}v6M${to} ${middle - 3}v6`, stroke: ink, "stroke-width": 1.3, fill: "none"}, this.svg);
    }
    this.items.push({x: end, y: y + thick / 2, box: [Math.min(zero, end), y - 1, Math.max(zero, end), y + thick + 1], lines});
  }

  paint(colour, role) {
    if (role !== "baseline") return {fill: colour};
    const id = `hatch${this.figure.dataset.chart}${colour.slice(1)}`;
    if (!this.svg.querySelector(`#${id}`)) {
      const pattern = shape("pattern", {id, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)"}, this.svg);
      shape("rect", {width: 5, height: 5, fill: colour, opacity: 0.28}, pattern);
      shape("line", {x1: 0, x2: 0, y1: 0, y2: 5, stroke: colour, "stroke-width": 3.4}, pattern);
    }
    return {fill: `url(#${id})`, stroke: colour, "stroke-width": 1};
  }

  find(x, y) {
    return this.items.find(({box}) => box && x >= Math.min(box[0], box[2]) - 6 && x <= box[2] + 10 && y >= box[1] && y <= box[3]) || super.find(x, y);
  }

  icon({colour, role}) {
    const svg = shape("svg", {width: 14, height: 12});
    if (role === "ceiling") shape("line", {x1: 7, x2: 7, y1: 0, y2: 12, stroke: colour, "stroke-width": 3, "stroke-dasharray": "5 2"}, svg);
    else shape("rect", {x: 1, y: 1, width: 12, height: 10, rx: 2, ...this.paint(colour, role)}, svg);
    return svg;
  }
}
