/* Named points of two numbers: predicted against true. */
class Points extends Chart {
  constructor(figure, spec) {
    super(figure, spec);
    this.x = array(spec.x);
    this.y = array(spec.y);
    this.places = new Map(spec.names.map((name, i) => [name.toLowerCase(), i]));
    this.found = -1;
    if (spec.names.length > 30) this.search();
  }

  /** One field for all charts of points in a section. */
  search() {
    const grid = this.figure.parentElement;
    if (grid.previousElementSibling?.classList.contains("search")) return;
    const box = make("div", {class: "search"});
    grid.before(box);
    const input = make("input", {type: "search", placeholder: "Find a gene", "aria-label": "Find a point by its name in these charts", autocomplete: "off", spellcheck: "false"}, box);
    input.addEventListener("input", () => charts.filter((chart) => chart instanceof Points && grid.contains(chart.figure))
      .forEach((chart) => chart.seek(input.value.trim().toLowerCase())));
  }

  /** Mark the point of this name, or else the first whose name begins so. */
  seek(word) {
    this.found = this.places.get(word) ?? (word.length > 1 ? [...this.places.keys()].findIndex((name) => name.startsWith(word)) : -1);
    this.draw();
  }

  draw() {
    const {names, highlighted, diagonal} = this.spec, {palette} = theme();
    this.open(Math.min(440, Math.max(300, this.room() * (diagonal ? 0.82 : 0.66))));
    const [x, y] = [ends(this.x), ends(this.y)];
    const both = diagonal ? [Math.min(x[0], y[0]), Math.max(x[1], y[1])] : null;
    const {across, up, margin} = this.plane(both || x, both || y);
    const named = new Set(highlighted), radius = names.length > 2000 ? 2 : names.length > 300 ? 2.6 : 3.6;
    const items = names.map((name, i) => ({
      x: across(this.x[i]), y: up(this.y[i]), name,
      lines: [name, [this.spec.x_label || "x", brief(this.x[i])], [this.spec.y_label || "y", brief(this.y[i])]],
    })).filter((item) => Number.isFinite(item.x) && Number.isFinite(item.y));
    this.pen.globalAlpha = names.length > 300 ? 0.45 : 0.75;
    for (const item of items) if (!named.has(item.name)) drawMarker(this.pen, 0, item.x, item.y, radius, palette[0]);
    this.pen.globalAlpha = 1;
    const bold = items.filter((item) => named.has(item.name));
    for (const item of bold) drawMarker(this.pen, 3, item.x, item.y, radius + 1.2, palette[3]);
    this.label(bold, margin);
    this.all = items;
    this.items = bold.length ? bold : items.slice(0, 200);
    const wanted = this.found >= 0 && items.find((item) => item.name === names[this.found]);
    if (wanted) this.point(wanted);
  }

  find(x, y) {
    const items = this.items;
    this.items = this.all;
    const item = super.find(x, y);
    this.items = items;
    return item;
  }

  /** Write names beside their points, where no other name stands. */
  label(items, margin) {
    const taken = [], {ink, ground} = theme();
    for (const item of items) {
      const width = widthOf(item.name, 11.5);
      const spots = [[8, 4], [-8 - width, 4], [-width / 2, -9], [-width / 2, 18], [8, -8], [8, 16], [-8 - width, -8], [-8 - width, 16]];
      const free = spots.map(([dx, dy]) => ({left: item.x + dx, top: item.y + dy - 11, right: item.x + dx + width, bottom: item.y + dy + 2}))
        .find((box) => box.left > margin.left && box.right < this.width && box.top > 0 && box.bottom < this.height - margin.bottom
          && !taken.some((other) => box.left < other.right && box.right > other.left && box.top < other.bottom && box.bottom > other.top));
      if (!free) continue;
      taken.push(free);
      shape("text", {x: free.left, y: free.bottom - 2, "font-size": 11.5, fill: ink, stroke: ground, "stroke-width": 3, "paint-order": "stroke", class: "name"}, this.svg, item.name);
    }
  }

  point(item) {
    const {ink, ground} = theme(), left = item.x > this.width * 0.7;
    shape("circle", {cx: item.x, cy: item.y, r: 7, fill: "none", stroke: ink, "stroke-width": 2.4, class: "found"}, this.svg);
    shape("text", {x: item.x + (left ? -12 : 12), y: item.y - 8, "font-size": 13, "font-weight": 700, fill: ink, stroke: ground, "stroke-width": 4, "paint-order": "stroke", "text-anchor": left ? "end" : "start"}, this.svg, item.name);
  }
}
