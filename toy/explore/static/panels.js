// The policies side by side: a lake for each method, the numbers under it, and the numbers of one cell in all of them.

import { Board } from "./board.js";
import { ARROWS, dashOf, html, short, svg } from "./dom.js";
import { widest } from "./explain.js";

const ACTIONS = ["left", "down", "right", "up"];

export class Panels {
  /** `controls(method)` makes what stands under a panel, such as the sliders of its numbers. */
  constructor(place, inspector, controls = () => []) {
    Object.assign(this, { place, inspector, controls, pointed: null, kept: null, panels: [] });
  }

  /** Draw the panels of a run anew. */
  show(run) {
    this.run = run;
    const cells = run.rows.join("").length;
    if (this.kept >= cells || run.rows.join("")[this.kept] === "H") this.kept = null;
    this.pointed = null;
    this.panels = run.methods.map((method, index) => {
      const board = new Board(run, (cell) => this.point(cell), (cell) => this.keep(cell));
      const readout = html("dl", { class: "readout" });
      const key = svg("svg", { class: "key", viewBox: "0 0 28 10" },
        svg("line", { x1: 0, x2: 28, y1: 5, y2: 5, stroke: method.colour, "stroke-width": 4, "stroke-dasharray": dashOf(run.methods, index) }));
      const title = html("h3", {}, key, " ", method.name);
      const meaning = html("p", { class: "meaning", title: method.help }, method.title);
      const element = html("article", { class: "panel card" }, title, meaning, board.element, readout, html("div", {}, ...this.controls(method)));
      return { method, board, readout, element };
    });
    this.place.replaceChildren(...this.panels.map((panel) => panel.element));
    this.place.style.setProperty("--columns", this.panels.length > 4 ? 3 : this.panels.length);
    this.frame = null;
  }

  /** Whether a run has the lake and the methods of the one that is drawn, so that its numbers can stand in the same panels. */
  fits(run) {
    return JSON.stringify([run.rows, run.request.methods, run.optimum]) === JSON.stringify([this.run.rows, this.run.request.methods, this.run.optimum]);
  }

  /** Go on with a run that fits, without drawing anew: what is held or has the focus stays. */
  take(run) {
    this.run = run;
    this.panels.forEach((panel, i) => {
      panel.method = run.methods[i];
      for (const input of panel.element.querySelectorAll("[data-number]")) {
        if (input !== document.activeElement) input.value = short(panel.method.numbers[input.dataset.number], 6);
      }
    });
  }

  update(frame, shade) {
    this.frame = frame;
    for (const { method, board, readout } of this.panels) {
      const now = frame.methods[method.name];
      if (!now) continue;
      board.update(now, shade, method.numbers.lam ?? 0, method.colour);
      const curves = now.curves;
      const value = (metric, factor = 1) => (curves[metric] ? short(factor * curves[metric][0], 4) : "–");
      const rows = [
        ["parameter distance", value("parameter_mse", 1000), "Mean squared distance ×10⁻³ of the parameters to those of the optimal parameterised policy"],
        ["policy distance", value("policy_mse", 1000), "Mean squared distance ×10⁻³ of the probabilities to the optimum's"],
        ["success", curves.success ? curves.success[0].toFixed(3) : "–", "Probability that an episode reaches a goal"],
        ["travelled", value("travelled"), "Distance of the parameters from the start policy's"],
      ];
      readout.replaceChildren(...rows.map(([name, text, help]) => html("div", { title: help }, html("dt", {}, name), html("dd", {}, text))));
      if (now.stopped) readout.append(html("div", { class: "warn" }, `${now.stopped} runs broke: the step is too long`));
      board.element.setAttribute("aria-label", `${method.name}: success ${rows[2][1]}, distance to the optimum ${rows[1][1]} between policies, ${rows[0][1]} between parameters`);
    }
    this.inspect();
  }

  /** Show a cell while it is pointed at; null when no cell is. */
  point(cell) {
    this.pointed = cell;
    this.inspect();
  }

  /** Show a cell until another is chosen; null shows the one in which the methods differ most. */
  keep(cell) {
    if (cell !== null && "H".includes(this.run?.rows.join("")[cell] ?? "H")) return;
    [this.pointed, this.kept] = [null, cell];
    this.inspect();
  }

  /** The numbers of the chosen cell in all methods and in the optimum. */
  inspect() {
    if (!this.frame) return;
    const found = widest(this.run, this.frame);
    const follows = this.frame.update > 0 && found !== null && (this.pointed ?? this.kept) === null;
    this.cell = this.pointed ?? this.kept ?? (follows ? found.cell : this.run.targets[0][0][0]);
    for (const { board } of this.panels) board.choose(this.cell);
    const columns = this.run.rows[0].length;
    const letter = this.run.rows.join("")[this.cell];
    const where = `Row ${Math.floor(this.cell / columns) + 1}, column ${(this.cell % columns) + 1}`;
    const kind = letter === "G" ? "goal" : this.run.neverVisited.includes(this.cell) ? "the target never comes here" : "on the target's way";
    const head = ["", ...ARROWS, "distance", "visits"];
    const optimum = this.run.optimum[this.cell];
    const row = (name, chances, rest) => html("tr", {}, html("th", { scope: "row" }, name),
      ...chances.map((chance, action) => html("td", { class: optimum[action] > 0 ? "best" : "" }, chance.toFixed(2))), ...rest.map((text) => html("td", {}, text)));
    const rows = this.panels.map(({ method }) => {
      const now = this.frame.methods[method.name];
      if (!now?.policy) return row(method.name, [0, 0, 0, 0], ["–", "–"]);
      return row(method.name, now.policy[this.cell], [now.error[this.cell].toFixed(3), now.visits[this.cell].toFixed(2)]);
    });
    const table = letter === "G" ? html("p", {}, "An episode ends here.") : html("div", { class: "scroll" }, html("table", {},
      html("thead", {}, html("tr", {}, ...head.map((text, i) => html("th", { scope: "col", "aria-label": ACTIONS[i - 1] ?? text }, text)))),
      html("tbody", {}, ...rows, row("optimum", optimum, ["0", ""]))));
    this.inspector.replaceChildren(html("p", {}, html("b", {}, where), follows ? `, where ${found.first.name} and ${found.second.name} differ most` : "", `, ${kind}. Probability of each move, mean over seeds; moves of the optimum are bold.`), table);
  }
}

/** What the signs of the drawings mean. */
export function legend(shade) {
  const sign = (...shapes) => svg("svg", { class: "sign", viewBox: "0 0 34 16" }, ...shapes);
  const shades = { distance: "far from the optimum here", visits: "often visited", scored: "scored by this training" };
  const items = [
    [sign(svg("path", { class: "arrow", d: "M2 6H18V2L30 8L18 14V10H2Z" })), "a move that the optimum makes"],
    [sign(svg("path", { class: "arrow off", d: "M2 6H18V2L30 8L18 14V10H2Z" })), "a move that it never makes"],
    [sign(svg("line", { class: "way target", x1: 2, x2: 32, y1: 8, y2: 8 })), "the target"],
    [sign(svg("line", { class: "way other", x1: 2, x2: 32, y1: 8, y2: 8 })), "the second way"],
    [sign(svg("rect", { class: "ice", width: 34, height: 16 }), svg("path", { class: "never", d: "M34 16v-12l-12 12z" })), "the target never comes here"],
    [sign(svg("path", { d: "M3 13Q16 -4 28 9", fill: "none", stroke: "#de8f05", "stroke-width": 3 }), svg("circle", { cx: 28, cy: 9, r: 4, fill: "#de8f05", "fill-opacity": 0.35, stroke: "#de8f05" })), "a state that λ mixes in"],
    [sign(svg("rect", { class: "ice", width: 34, height: 16 }), svg("rect", { class: "shade", width: 34, height: 16, "fill-opacity": 0.7 })), shades[shade]],
  ];
  return items.map(([drawing, text]) => html("span", {}, drawing, text));
}

