/* Curves over a shared axis. */
class Lines extends Chart {
  draw() {
    const {series, marks, y_range} = this.spec;
    const all = series.map((each) => each.name);
    const shown = series.filter((each) => !this.hidden.has(each.name));
    this.open(Math.min(320, Math.max(230, this.room() * 0.62)));
    const {across, up, margin} = this.plane(ends(series.flatMap((each) => each.x), 0.015), y_range || ends(shown.flatMap((each) => each.y)));
    const clip = `clip${this.figure.dataset.chart}`;
    shape("rect", {x: margin.left, y: margin.top, width: this.width - margin.left - margin.right, height: this.height - margin.top - margin.bottom},
      shape("clipPath", {id: clip}, this.svg));
    const inside = shape("g", {"clip-path": `url(#${clip})`}, this.svg);
    this.items = [];
    for (const {name, x, y} of shown) {
      const {colour, dash} = styleOf(name, all);
      let path = "", lifted = true;
      x.forEach((at, i) => {
        if (at === null || y[i] === null) { lifted = true; return; }
        path += `${lifted ? "M" : "L"}${across(at).toFixed(1)} ${up(y[i]).toFixed(1)}`;
        lifted = false;
        this.items.push({x: across(at), y: up(y[i]), lines: [name, [this.spec.x_label || "x", brief(at)], [this.spec.y_label || "y", brief(y[i])]]});
      });
      shape("path", {d: path, fill: "none", stroke: colour, "stroke-width": 2.2, "stroke-dasharray": dash, "stroke-linejoin": "round", "stroke-linecap": "round"}, inside);
      if (x.length <= 25) x.forEach((at, i) => y[i] !== null && at !== null && shape("circle", {cx: across(at), cy: up(y[i]), r: 3, fill: colour}, inside));
    }
    for (const {name, x} of marks) this.note(name, across(x), margin);
    this.items.sort((a, b) => a.x - b.x);
    this.names(series.map(({name}) => ({name, icon: this.icon(styleOf(name, all))})));
  }

  /** A dotted line with its name, on the side where there is room. */
  note(name, x, margin) {
    const {quiet, ground} = theme();
    shape("line", {x1: x, x2: x, y1: margin.top, y2: this.height - margin.bottom, stroke: quiet, "stroke-dasharray": "2 3", "stroke-width": 1.4}, this.svg);
    const leftwards = x > this.width * 0.6;
    shape("text", {x: x + (leftwards ? -6 : 6), y: margin.top + 11, "font-size": 11.5, fill: quiet, stroke: ground, "stroke-width": 3, "paint-order": "stroke", "text-anchor": leftwards ? "end" : "start"}, this.svg, name);
  }

  icon({colour, dash}) {
    const svg = shape("svg", {width: 24, height: 10});
    shape("line", {x1: 1, x2: 23, y1: 5, y2: 5, stroke: colour, "stroke-width": 2.6, "stroke-dasharray": dash}, svg);
    return svg;
  }
}
