/* What all charts share: arrays, colours, numbers as text, scales, and the box that follows the pointer. */
const report = JSON.parse(document.getElementById("report-data").textContent);

const KINDS = {u1: Uint8Array, u2: Uint16Array, i2: Int16Array, f4: Float32Array};
const opened = new Map();

/** Open a packed array; each is decoded once. */
function array(place) {
  if (!opened.has(place)) {
    const {kind, content} = report.arrays[place];
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    opened.set(place, new KINDS[kind](bytes.buffer));
  }
  return opened.get(place);
}

/* Okabe and Ito's colours and four darker ones; on dark ground, the same hues, lighter. */
const THEMES = {
  light: {
    palette: report.palette, ink: "#1b2430", quiet: "#5b6675", line: "#dfe3e8", ground: "#ffffff", missing: "#d5d9de",
    numbers: ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#fee838"],
    signs: ["#084c96", "#4b8fc8", "#b4d2e8", "#f6f6f4", "#f6c998", "#dd7f13", "#8f4300"],
  },
  dark: {
    palette: ["#4fa8e0", "#f0ab24", "#2fc497", "#f0793a", "#dd93bd", "#8fd0f5", "#c2a057", "#ab90de", "#d4d9df", "#d3d34a"],
    ink: "#e7ebf0", quiet: "#9ba7b5", line: "#323c48", ground: "#191f27", missing: "#46505c",
    numbers: ["#3f5a92", "#5a6787", "#6f7684", "#858784", "#9b987f", "#b3a978", "#ccbc6b", "#e6d25a", "#fff08a"],
    signs: ["#6fb6f2", "#3f7fb8", "#27496a", "#28303a", "#6a4520", "#c47a22", "#ffb45e"],
  },
};
const darkness = matchMedia("(prefers-color-scheme: dark)");
let printing = false;
const theme = () => THEMES[darkness.matches && !printing ? "dark" : "light"];

const mix = (a, b, t) => "#" + [1, 3, 5].map((at) => {
  const [x, y] = [a, b].map((colour) => parseInt(colour.slice(at, at + 2), 16));
  return Math.round(x + (y - x) * t).toString(16).padStart(2, "0");
}).join("");

/** The colour of a number from 0 to 1 on a scale of colours. */
function ramp(colours, t) {
  const at = Math.min(Math.max(t, 0), 1) * (colours.length - 1);
  const below = Math.min(Math.floor(at), colours.length - 2);
  return mix(colours[below], colours[below + 1], at - below);
}

/** Runs have the same colour everywhere; others take the colours after theirs. */
function styleOf(name, among) {
  const run = report.runs.indexOf(name);
  const others = among.filter((other) => !report.runs.includes(other));
  const place = run >= 0 ? run : (among.length > others.length ? report.runs.length : 0) + others.indexOf(name);
  const role = report.roles[name] || "run";
  return {colour: theme().palette[place % 10], place, role, dash: DASHES[role === "run" ? Math.floor(place / 10) % 4 : 1 + place % 3]};
}
const DASHES = ["", "7 4", "2 4", "9 4 2 4"];

function brief(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) || size >= 1e4) return Math.round(value).toLocaleString("en").replace("-", "−");
  if (size < 1e-3) return value.toPrecision(2).replaceAll("-", "−");
  return value.toFixed(size < 1 ? 3 : size < 10 ? 2 : 1).replace("-", "−");
}

/** Round numbers between two ends, about n of them. */
function ticks(low, high, n) {
  const raw = (high - low) / Math.max(n, 1);
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= raw * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) found.push(at);
  return found.map((at) => Number(at.toPrecision(12)));
}

const tickText = (value) => Math.abs(value) >= 1e4 || value === 0 || Math.abs(value) >= 1e-4
  ? value.toLocaleString("en", {maximumSignificantDigits: 5, notation: Math.abs(value) >= 1e6 ? "compact" : "standard"}).replace("-", "−")
  : value.toExponential(0);

function scale(low, high, from, to) {
  const span = high - low || 1;
  return Object.assign((value) => from + (value - low) / span * (to - from), {low, high});
}

function make(tag, attributes = {}, parent = null, text = null) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function shape(tag, attributes = {}, parent = null, text = null) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== "") node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

const pen = document.createElement("canvas").getContext("2d");
function widthOf(text, size) {
  pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text).width;
}

/** Shorten a text to a width in pixels. */
function fitted(text, width, size) {
  if (widthOf(text, size) <= width) return text;
  let length = text.length;
  while (length > 1 && widthOf(text.slice(0, length) + "…", size) > width) length -= 1;
  return text.slice(0, length) + "…";
}

/* The box that follows the pointer. Lines are [name, value] pairs or a title. */
const tip = {
  box: document.getElementById("tip"),
  show(x, y, lines) {
    this.box.replaceChildren(...lines.map((line) => {
      if (!Array.isArray(line)) return make("b", {}, null, line);
      const row = make("div");
      make("i", {}, row, line[0]);
      row.append(line[1]);
      return row;
    }));
    this.box.hidden = false;
    const {width, height} = this.box.getBoundingClientRect();
    const left = x + 16 + width > innerWidth - 6 ? x - 14 - width : x + 16;
    const top = y + 16 + height > innerHeight - 6 ? y - 12 - height : y + 16;
    this.box.style.transform = `translate(${Math.max(6, Math.min(left, innerWidth - width - 6))}px, ${Math.max(6, top)}px)`;
  },
  hide() { this.box.hidden = true; },
};

/* Five shapes of equal weight, so that ten colours tell fifty categories apart. */
const MARKERS = [
  (p, x, y, r) => p.arc(x, y, r, 0, 7),
  (p, x, y, r) => { p.moveTo(x, y - 1.25 * r); p.lineTo(x + 1.15 * r, y + 0.8 * r); p.lineTo(x - 1.15 * r, y + 0.8 * r); p.closePath(); },
  (p, x, y, r) => p.rect(x - 0.88 * r, y - 0.88 * r, 1.76 * r, 1.76 * r),
  (p, x, y, r) => { p.moveTo(x, y - 1.3 * r); p.lineTo(x + 1.3 * r, y); p.lineTo(x, y + 1.3 * r); p.lineTo(x - 1.3 * r, y); p.closePath(); },
  (p, x, y, r) => { p.moveTo(x, y + 1.25 * r); p.lineTo(x + 1.15 * r, y - 0.8 * r); p.lineTo(x - 1.15 * r, y - 0.8 * r); p.closePath(); },
];

function drawMarker(context, which, x, y, radius, colour) {
  context.fillStyle = colour;
  context.beginPath();
  MARKERS[which % MARKERS.length](context, x, y, radius);
  context.fill();
}
