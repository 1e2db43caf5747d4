/* Draw every chart, and draw again when the size, the ground or the medium changes. */
const CHARTS = {lines: Lines, points: Points, bars: Bars, heat: Heat, map: CellMap};
const charts = [...document.querySelectorAll("figure[data-chart]")].map((figure) => {
  const spec = report.charts[Number(figure.dataset.chart)];
  return new CHARTS[spec.type](figure, spec);
});
const drawAll = () => charts.forEach((chart) => { if (!chart.figure.closest("details:not([open])")) chart.redraw(); });
drawAll();
/* Folded charts are drawn when they are unfolded. */
document.querySelectorAll("details").forEach((fold) => fold.addEventListener("toggle", () => {
  if (fold.open && !printing) charts.filter((chart) => fold.contains(chart.figure)).forEach((chart) => chart.redraw());
}));

let drawnAt = document.documentElement.clientWidth;
addEventListener("resize", () => {
  if (document.documentElement.clientWidth === drawnAt || printing) return;
  drawnAt = document.documentElement.clientWidth;
  drawAll();
});
darkness.addEventListener("change", drawAll);
let unfolded = []; // for printing
const print = (on) => {
  if (printing === on) return;
  printing = on;
  if (on) unfolded = [...document.querySelectorAll("details.more:not([open])")];
  unfolded.forEach((fold) => { fold.open = on; });
  if (on) drawAll();
  else requestAnimationFrame(drawAll); // once the screen has its size again
};
addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));
matchMedia("print").addEventListener("change", (event) => print(event.matches));
addEventListener("scroll", () => tip.hide(), {passive: true});

/* The section in view is marked in the bar above. */
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.getAttribute("href").slice(1), link]));
const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
  if (!entry.isIntersecting) return;
  for (const link of links.values()) link.removeAttribute("aria-current");
  const link = links.get(entry.target.id);
  link.setAttribute("aria-current", "true");
  const bar = link.parentElement;
  bar.scrollTo({left: link.offsetLeft - bar.clientWidth / 2 + link.clientWidth / 2});
}), {rootMargin: "-20% 0px -70% 0px"});
document.querySelectorAll("main section").forEach((section) => links.has(section.id) && seen.observe(section));
document.documentElement.dataset.drawn = String(charts.length);
