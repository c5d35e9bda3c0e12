// The lake that one draws: click or drag, or move with the arrow keys and type the letter of a cell.

import { html } from "./dom.js";

const TOOLS = [["H", "hole"], ["F", "ice"], ["G", "goal"], ["S", "start"]];
const KINDS = { H: "hole", F: "ice", G: "goal", S: "start" };
const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export class Editor {
  /** `onChange({ map, slippery })` hears of every change, `onMove(cell)` of the cell that arrow keys come to. */
  constructor(place, [fewest, most], onChange, onMove) {
    Object.assign(this, { onChange, onMove, tool: "H", painting: null, cursor: 0 });
    const sizes = Array.from({ length: most - fewest + 1 }, (_, i) => fewest + i);
    const size = (name) => html("select", { "aria-label": name, onchange: () => this.resize(Number(this.height.value), Number(this.width.value)) },
      ...sizes.map((value) => html("option", { value }, String(value))));
    [this.height, this.width] = [size("Rows"), size("Columns")];
    this.grid = html("div", { class: "grid", role: "group", "aria-label": "Cells of the lake" });
    this.tools = TOOLS.map(([letter, name]) => html("button", { type: "button", "data-tool": letter, onclick: () => this.choose(letter) }, name));
    this.slippery = html("input", { type: "checkbox", id: "slippery", onchange: () => this.tell() });
    const hint = html("p", { class: "note" }, "Click or drag to draw; a click on a hole takes it away.");
    this.wrong = html("p", { class: "wrong", id: "wrong", role: "status" });
    place.replaceChildren(
      html("div", { class: "tools", role: "group", "aria-label": "What a click draws" }, ...this.tools), this.grid, hint, this.wrong,
      html("div", { class: "row" }, html("label", {}, this.height, " rows "), html("label", {}, this.width, " columns ")),
      html("label", { title: "A move may slip a quarter turn to either side, each with probability 1/3" }, this.slippery, " slippery ice"),
    );
    this.choose("H");
    this.grid.addEventListener("pointerdown", (event) => this.begin(event));
    this.grid.addEventListener("pointermove", (event) => this.drag(event));
    addEventListener("pointerup", () => { this.painting = null; });
    this.grid.addEventListener("keydown", (event) => this.key(event));
  }

  show(map, slippery) {
    this.rows = map.split("/").slice(0, 8).map((row) => [...row].slice(0, 8)); // a link may ask for anything
    this.slippery.checked = slippery;
    [this.height.value, this.width.value] = [this.rows.length, this.rows[0].length];
    this.grid.style.gridTemplateColumns = `repeat(${this.rows[0].length}, 1fr)`;
    this.cursor = Math.min(this.cursor, this.rows.flat().length - 1);
    const columns = this.rows[0].length;
    const buttons = this.rows.flat().map((_, cell) => html("button", { type: "button", "data-cell": cell,
      onfocus: () => { this.cursor = cell; },
      onclick: (event) => { if (event.detail === 0) this.paint(cell, this.letterFor(cell)); } }));
    if (this.grid.children.length !== buttons.length || this.columns !== columns) this.grid.replaceChildren(...buttons);
    this.columns = columns;
    this.draw();
  }

  draw() {
    this.rows.flat().forEach((letter, cell) => {
      const button = this.grid.children[cell];
      const text = letter === "S" || letter === "G" ? letter : "";
      if (button.textContent !== text) button.textContent = text;
      button.className = letter;
      button.tabIndex = cell === this.cursor ? 0 : -1;
      button.setAttribute("aria-label", `row ${Math.floor(cell / this.columns) + 1}, column ${(cell % this.columns) + 1}: ${KINDS[letter] ?? letter}`);
    });
  }

  /** Say what is wrong with the lake; nothing if it can be trained on. */
  say(...parts) {
    this.wrong.replaceChildren(...parts);
  }

  choose(letter) {
    this.tool = letter;
    for (const button of this.tools) button.setAttribute("aria-pressed", String(button.dataset.tool === letter));
  }

  /** A second click on a hole or a goal takes it away again. */
  letterFor(cell) {
    const now = this.rows.flat()[cell];
    return now === this.tool && now !== "S" ? "F" : this.tool;
  }

  begin(event) {
    const cell = event.target.dataset?.cell;
    if (cell === undefined) return;
    this.painting = this.letterFor(Number(cell));
    this.grid.children[cell].focus();
    event.preventDefault();
    this.paint(Number(cell), this.painting);
  }

  drag(event) {
    if (this.painting === null) return;
    const cell = document.elementFromPoint(event.clientX, event.clientY)?.dataset?.cell;
    if (cell !== undefined) this.paint(Number(cell), this.painting);
  }

  paint(cell, letter) {
    const [row, column] = [Math.floor(cell / this.columns), cell % this.columns];
    if (this.rows[row][column] === letter) return;
    if (letter === "S") this.rows = this.rows.map((each) => each.map((old) => (old === "S" ? "F" : old)));
    this.rows[row][column] = letter;
    this.draw();
    this.tell();
  }

  key(event) {
    const letter = event.key.toUpperCase();
    const move = MOVES[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !(move || letter in KINDS)) return;
    event.preventDefault();
    event.stopPropagation();
    if (!move) return this.paint(this.cursor, letter);
    const [row, column] = [Math.floor(this.cursor / this.columns) + move[0], (this.cursor % this.columns) + move[1]];
    if (row < 0 || column < 0 || row >= this.rows.length || column >= this.columns) return;
    this.grid.children[row * this.columns + column].focus();
    this.onMove(row * this.columns + column);
    this.draw();
  }

  /** Another size keeps what fits; a start or goal that is cut off moves to the first or last cell of ice. */
  resize(height, width) {
    const rows = Array.from({ length: height }, (_, r) => Array.from({ length: width }, (_, c) => this.rows[r]?.[c] ?? "F"));
    const flat = rows.flat();
    if (!flat.includes("S")) flat[Math.max(0, flat.indexOf("F"))] = "S";
    if (!flat.includes("G")) flat[flat.lastIndexOf("F")] = "G";
    this.rows = rows.map((_, r) => flat.slice(r * width, (r + 1) * width));
    this.show(this.map, this.slippery.checked);
    this.tell();
  }

  get map() {
    return this.rows.map((row) => row.join("")).join("/");
  }

  tell() {
    this.onChange({ map: this.map, slippery: this.slippery.checked });
  }
}
