// One lake as a drawing: ways, shades, arrows and the states that are mixed in. A cell is 100 units wide.

import { svg } from "./dom.js";

const STEPS = [[-1, 0], [0, 1], [1, 0], [0, -1]]; // (right, down) of left, down, right, up
const FAINTEST = 0.03; // a move that is less likely has no arrow
const FULL = { distance: 0.25, visits: 1, scored: 0.3 }; // the value of a cell in its full shade

export class Board {
  /** `onPoint(cell)` hears which cell is pointed at, `onChoose(cell)` which is clicked. */
  constructor(run, onPoint, onChoose) {
    this.run = run;
    this.columns = run.rows[0].length;
    const letters = run.rows.join("");
    this.letters = letters;
    const live = [...letters].map((letter) => letter === "F" || letter === "S");
    const never = new Set(run.neverVisited);
    const layers = { base: [], shade: [], marks: [], ways: [], good: [], bad: [], letters: [], hits: [] };
    this.shades = [];
    this.arrows = [];
    [...letters].forEach((letter, cell) => {
      const [x, y] = this.corner(cell);
      const box = { x, y, width: 100, height: 100 };
      layers.base.push(svg("rect", { ...box, class: letter === "H" ? "hole" : "ice" }));
      this.shades.push(live[cell] ? svg("rect", { ...box, class: "shade", "fill-opacity": 0 }) : null);
      if (never.has(cell)) layers.marks.push(svg("path", { class: "never", d: `M${x + 100} ${y + 100}v-22l-22 22z` }));
      if (letter === "G") layers.letters.push(this.text(cell, "G", "goal"));
      if (letter === "S") layers.letters.push(svg("text", { x: x + 10, y: y + 29, class: "start" }, "S"));
      const arrows = live[cell] ? [svg("path", { class: "arrow" }), svg("path", { class: "arrow off" })] : null;
      this.arrows.push(arrows);
      if (letter !== "H") {
        layers.hits.push(svg("rect", { ...box, class: "hit", onpointerenter: () => onPoint(cell), onclick: () => onChoose(cell) }));
      }
    });
    for (const way of run.otherWays) layers.ways.push(svg("path", { class: "way other", d: this.way(way, -9) }));
    for (const way of run.targetWays) layers.ways.push(svg("path", { class: "way target", d: this.way(way, 9) }));
    this.mixed = svg("g", { class: "mixed" });
    this.mark = svg("rect", { class: "chosen", width: 94, height: 94, rx: 6, visibility: "hidden" });
    const height = run.rows.length * 100;
    this.element = svg(
      "svg",
      { class: "board", viewBox: `-3 -3 ${this.columns * 100 + 6} ${height + 6}`, role: "img", onpointerleave: () => onPoint(null) },
      svg("g", {}, ...layers.base), svg("g", {}, ...this.shades.filter(Boolean)), svg("g", {}, ...layers.marks),
      svg("g", {}, ...layers.ways), svg("g", {}, ...layers.letters), this.mixed,
      svg("g", {}, ...this.arrows.filter(Boolean).flat()), this.mark, svg("g", {}, ...layers.hits),
    );
  }

  corner(cell) {
    return [(cell % this.columns) * 100, Math.floor(cell / this.columns) * 100];
  }

  centre(cell) {
    return this.corner(cell).map((side) => side + 50);
  }

  text(cell, letter, kind) {
    const [x, y] = this.centre(cell);
    return svg("text", { x, y: y + 17, class: kind, "text-anchor": "middle" }, letter);
  }

  way(cells, aside) {
    return "M" + cells.map((cell) => this.centre(cell).map((middle) => middle + aside).join(" ")).join("L");
  }

  /** Draw a method's frame; `lam` is how strongly its states are mixed. */
  update(frame, shade, lam, colour) {
    const values = { distance: frame.error, visits: frame.visits, scored: frame.scored }[shade];
    const optimum = this.run.optimum;
    this.arrows.forEach((arrows, cell) => {
      if (!arrows || !frame.policy) return;
      const share = values ? Math.min(1, values[cell] / FULL[shade]) : 0;
      this.shades[cell].setAttribute("fill-opacity", (0.85 * Math.sqrt(share)).toFixed(3));
      const shapes = ["", ""];
      frame.policy[cell].forEach((chance, action) => {
        if (chance >= FAINTEST) shapes[optimum[cell][action] > 0 ? 0 : 1] += arrow(this.centre(cell), STEPS[action], chance);
      });
      arrows.forEach((path, i) => path.setAttribute("d", shapes[i]));
    });
    this.mixed.replaceChildren(...(frame.mixed ?? []).filter((line) => lam * line[2] > 0.002).map((line) => this.residual(line, lam, colour)));
  }

  residual([from, to, share], lam, colour) {
    const [[x, y], [u, v]] = [this.centre(from), this.centre(to)];
    const bend = 0.22; // so that a line does not lie on the arrows
    const [cx, cy] = [(x + u) / 2 + bend * (v - y), (y + v) / 2 - bend * (u - x)];
    const opacity = Math.min(1, 0.25 + 0.75 * lam * share).toFixed(2);
    const width = (3 + 9 * lam * share).toFixed(1);
    return svg("g", { stroke: colour, fill: colour, opacity },
      svg("path", { d: `M${x} ${y}Q${cx} ${cy} ${u} ${v}`, fill: "none", "stroke-width": width }),
      svg("circle", { cx: x, cy: y, r: 7 }), svg("circle", { cx: u, cy: v, r: 13, "fill-opacity": 0.35, "stroke-width": 4 }));
  }

  /** Frame a cell. */
  choose(cell) {
    this.mark.setAttribute("visibility", "visible");
    const [x, y] = this.corner(cell);
    this.mark.setAttribute("x", x + 3);
    this.mark.setAttribute("y", y + 3);
  }
}

/** The outline of an arrow from the middle of a cell, as long as its move is likely. */
function arrow([x, y], [right, down], chance) {
  const length = 8 + 39 * chance;
  const [head, half, thick] = [Math.min(15, 0.6 * length), Math.min(10, 0.45 * length), Math.min(3.6, 0.16 * length)];
  const outline = [[0, thick], [length - head, thick], [length - head, half], [length, 0], [length - head, -half], [length - head, -thick], [0, -thick]];
  return "M" + outline.map(([along, aside]) =>
    `${(x + along * right - aside * down).toFixed(1)} ${(y + along * down + aside * right).toFixed(1)}`).join("L") + "Z";
}
