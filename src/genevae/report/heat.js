/* A table of numbers as colours. */
class Heat extends Chart {
  draw() {
    const {rows, columns, diverging, row_label, column_label} = this.spec, values = array(this.spec.values);
    const {ink, quiet} = theme(), stageWidth = this.room();
    const left = Math.min(Math.max(...rows.map((name) => widthOf(name, 11.5))) + 12, stageWidth * 0.3) + (row_label ? 16 : 0);
    const longest = Math.min(Math.max(...columns.map((name) => widthOf(name, 11.5))), 110);
    const turned = longest + 6 > (stageWidth - left - 8) / columns.length;
    const across = (stageWidth - left - (turned ? Math.max(8, longest * 0.72 - 12) : 8)) / columns.length;
    const top = (turned ? longest * 0.72 + 14 : 20) + (column_label ? 18 : 0);
    const down = Math.max(rows.length > 60 ? 7 : 16, Math.min(34, across, 480 / rows.length));
    this.open(top + rows.length * down + 40);
    const [low, high] = this.range(values, diverging);
    const colours = diverging ? theme().signs : theme().numbers;
    const colour = (value) => Number.isFinite(value) ? ramp(colours, (value - low) / (high - low || 1)) : theme().missing;
    this.size = {left, top, across, down};
    for (let i = 0; i < rows.length; i++) for (let j = 0; j < columns.length; j++) {
      this.pen.fillStyle = colour(values[i * columns.length + j]);
      this.pen.fillRect(left + j * across, top + i * down, across - (across > 6 ? 1 : 0), down - (down > 6 ? 1 : 0));
    }
    const text = shape("g", {"font-size": 11.5, fill: ink}, this.svg);
    if (down >= 10) rows.forEach((name, i) => shape("text", {x: left - 6, y: top + (i + 0.5) * down + 4, "text-anchor": "end"}, text, fitted(name, left - (row_label ? 24 : 8), 11.5)));
    if (across >= 9) columns.forEach((name, j) => shape("text", turned
      ? {transform: `translate(${left + (j + 0.5) * across + 4} ${top - 6}) rotate(-45)`}
      : {x: left + (j + 0.5) * across, y: top - 6, "text-anchor": "middle"}, text, fitted(name, 110, 11.5)));
    if (row_label) shape("text", {transform: `translate(11 ${top + rows.length * down / 2}) rotate(-90)`, "text-anchor": "middle", fill: quiet}, text, row_label);
    if (column_label) shape("text", {x: left + columns.length * across / 2, y: 12, "text-anchor": "middle", fill: quiet}, text, column_label);
    this.write(values, colour);
    this.key(low, high, colours, left);
    this.items = columns.length * rows.length > 2500 ? [] : rows.flatMap((_, i) => columns.map((__, j) => this.item(i, j)));
  }

  range(values, diverging) {
    const known = values.filter(Number.isFinite);
    const [low, high] = ends(known, 0);
    if (!diverging) return known.length && low >= 0 && high <= 1 ? [0, 1] : [low, high];
    const end = Math.max(Math.abs(low), Math.abs(high));
    return [-end, end];
  }

  /** The numbers themselves, where there is room for them. */
  write(values, colour) {
    const {left, top, across, down} = this.size, n = this.spec.columns.length;
    if (across < 34 || down < 15) return;
    const text = shape("g", {"font-size": 10.5, "text-anchor": "middle", "pointer-events": "none"}, this.svg);
    values.forEach((value, at) => Number.isFinite(value) && shape("text", {
      x: left + (at % n + 0.5) * across - 0.5, y: top + (Math.floor(at / n) + 0.5) * down + 3.5, fill: bright(colour(value)) ? "#10161d" : "#ffffff",
    }, text, Math.abs(value) < 1 ? value.toFixed(2).replace("-", "−") : brief(value)));
  }

  key(low, high, colours, left) {
    const y = this.height - 26, width = Math.min(160, this.width - left - 8);
    for (let i = 0; i < width; i++) { this.pen.fillStyle = ramp(colours, i / width); this.pen.fillRect(left + i, y, 1.5, 9); }
    const text = shape("g", {"font-size": 11, fill: theme().quiet}, this.svg);
    shape("text", {x: left, y: y + 22}, text, brief(low));
    shape("text", {x: left + width, y: y + 22, "text-anchor": "end"}, text, brief(high));
  }

  item(i, j) {
    const {left, top, across, down} = this.size, {rows, columns, row_label, column_label} = this.spec;
    const value = array(this.spec.values)[i * columns.length + j];
    return {i, j, x: left + (j + 0.5) * across, y: top + (i + 0.5) * down, lines: [brief(value), [row_label || "row", rows[i]], [column_label || "column", columns[j]]]};
  }

  find(x, y) {
    const {left, top, across, down} = this.size;
    const [i, j] = [Math.floor((y - top) / down), Math.floor((x - left) / across)];
    return i >= 0 && j >= 0 && i < this.spec.rows.length && j < this.spec.columns.length ? this.item(i, j) : null;
  }

  mark({i, j}) {
    const {left, top, across, down} = this.size;
    this.spot.replaceChildren();
    shape("rect", {x: left + j * across - 0.5, y: top + i * down - 0.5, width: across, height: down, fill: "none", stroke: theme().ink, "stroke-width": 2}, this.spot);
    this.svg.append(this.spot);
  }
}

/** Whether dark letters can be read on a colour. */
function bright(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b > 140;
}
