// Live curves: a line for each method, its mean over seeds, with the 95 % interval of that mean as a band.

import { dashOf, html, svg } from "./dom.js";

const METRICS = [
  ["parameter_mse", "distance between parameters, MSE ×10⁻³", 1000],
  ["policy_mse", "distance between policies, MSE ×10⁻³", 1000],
  ["success", "probability to reach the goal", 1],
];
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [380, 230, 46, 84, 26, 34];
const MOST_POINTS = 500;

export class Curves {
  constructor(place) {
    this.place = place;
    this.charts = METRICS.map(([metric, title, factor]) => new Chart(metric, title, factor));
    place.replaceChildren(...this.charts.map((chart) => chart.element));
    this.clear();
  }

  clear() {
    this.points = [];
  }

  /** Add a frame; one of the same update takes the place of the one before. */
  add(frame) {
    const point = { update: frame.update, methods: Object.fromEntries(Object.entries(frame.methods).map(([name, now]) => [name, now.curves])) };
    if (this.points.at(-1)?.update === frame.update) this.points.pop();
    this.points.push(point);
    if (this.points.length > MOST_POINTS) this.points = this.points.filter((_, i) => i % 2 === 0 || i === this.points.length - 1);
  }

  draw(run, axis, points = this.points) {
    for (const chart of this.charts) chart.draw(run.methods, points, axis);
  }
}

class Chart {
  constructor(metric, title, factor) {
    Object.assign(this, { metric, factor });
    this.axes = svg("g", { class: "axes" });
    this.lines = svg("g");
    this.labels = svg("g", { class: "ends" });
    this.element = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title, "data-metric": metric },
      svg("text", { x: 4, y: 14, class: "title" }, title), this.axes, this.lines, this.labels);
  }

  draw(methods, points, axis) {
    const series = methods.map((method, index) => ({
      method,
      dash: dashOf(methods, index),
      points: points.filter((point) => point.methods[method.name]?.[this.metric]).map((point) => {
        const curves = point.methods[method.name];
        const [mean, low, high] = curves[this.metric].map((value) => value * this.factor);
        return { x: axis === "updates" ? point.update : curves.travelled[0], mean, low, high };
      }),
    }));
    const all = series.flatMap((line) => line.points);
    if (!all.length) return;
    const [right, top] = [Math.max(...all.map((p) => p.x)), Math.max(...all.map((p) => p.high))];
    const bottom = Math.min(...all.map((p) => p.low));
    const room = Math.max(top - bottom, 1e-3 * Math.abs(top), 1e-6);
    const ys = scale(bottom - 0.04 * room, top + 0.04 * room, HEIGHT - BOTTOM, TOP);
    const xs = scale(0, right || 1, LEFT, WIDTH - RIGHT);
    this.drawAxes(xs, ys, axis);
    this.lines.replaceChildren(...series.flatMap(({ method, dash, points: line }) => [
      svg("path", { fill: method.colour, "fill-opacity": 0.13, d: outline(line, xs, ys) }),
      svg("path", { fill: "none", stroke: method.colour, "stroke-width": 2, "stroke-dasharray": dash, class: "line", "data-method": method.name,
        d: "M" + line.map((p) => `${xs(p.x).toFixed(1)} ${ys(p.mean).toFixed(1)}`).join("L") }),
    ]));
    this.drawLabels(series.filter((line) => line.points.length), xs, ys);
  }

  drawAxes(xs, ys, axis) {
    const marks = [];
    for (const value of ticks(ys.low, ys.high, 4)) {
      marks.push(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: ys(value), y2: ys(value) }), svg("text", { x: LEFT - 5, y: ys(value) + 3.5, "text-anchor": "end" }, plain(value)));
    }
    for (const value of ticks(xs.low, xs.high, 4)) marks.push(svg("text", { x: xs(value), y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }, plain(value)));
    marks.push(svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 5, "text-anchor": "middle" }, axis === "updates" ? "updates" : "distance travelled from the start"));
    this.axes.replaceChildren(...marks);
  }

  /** The name of each line at its end, moved apart where lines end close to one another. */
  drawLabels(series, xs, ys) {
    const ends = series.map((line) => ({ ...line, end: line.points.at(-1), y: ys(line.points.at(-1).mean) })).sort((a, b) => a.y - b.y);
    ends.forEach((end, i) => { if (i && end.y < ends[i - 1].y + 13) end.y = ends[i - 1].y + 13; });
    const over = Math.max(0, (ends.at(-1)?.y ?? 0) - (HEIGHT - BOTTOM));
    for (let i = ends.length - 1, limit = HEIGHT - BOTTOM; over && i >= 0; i--, limit -= 13) ends[i].y = Math.min(ends[i].y, limit);
    const x = Math.max(...ends.map(({ end }) => xs(end.x))) + 8;
    this.labels.replaceChildren(...ends.flatMap(({ method, end, y }) => [
      svg("path", { fill: "none", stroke: method.colour, d: `M${xs(end.x)} ${ys(end.mean)}L${x} ${y}` }),
      svg("circle", { cx: xs(end.x), cy: ys(end.mean), r: 3, fill: method.colour }),
      svg("text", { x: x + 3, y: y + 4 }, method.name.length > 11 ? method.name.slice(0, 10) + "…" : method.name),
    ]));
  }
}

/** The switch between the two horizontal axes. */
export function axisSwitch(axis, onChange) {
  const choice = (value, text) => html("label", {}, html("input", { type: "radio", name: "axis", value, checked: value === axis, onchange: () => onChange(value) }), " ", text);
  return html("div", { class: "switch", role: "radiogroup", "aria-label": "Horizontal axis" }, "against ", choice("updates", "updates"), choice("travelled", "distance travelled"));
}

function scale(low, high, from, to) {
  return Object.assign((value) => from + ((value - low) / (high - low)) * (to - from), { low, high });
}

function outline(line, xs, ys) {
  if (!line.length) return "";
  const side = (points, key) => points.map((p) => `${xs(p.x).toFixed(1)} ${ys(p[key]).toFixed(1)}`).join("L");
  return `M${side(line, "high")}L${side([...line].reverse(), "low")}Z`;
}

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * ([1, 2, 5].find((multiple) => multiple * unit >= rough) ?? 10);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

function plain(value) {
  return String(Number(value.toPrecision(6)));
}
