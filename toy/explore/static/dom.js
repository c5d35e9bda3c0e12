// Elements of the page and of its drawings, made in one call.

const SVG = "http://www.w3.org/2000/svg";

export const ARROWS = ["←", "↓", "→", "↑"]; // of the moves, in their order

/** An HTML element; attributes that start with "on" are listeners, texts become text nodes. */
export function html(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An SVG element. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Greek letters for the numbers that papers write so, words for the others. */
export function numberName(name) {
  return { lam: "λ", gamma: "γ", beta: "β", lr: "step size" }[name] ?? name.replaceAll("_", " ");
}

/** A number in at most `digits` significant digits, without needless zeros. */
export function short(value, digits = 3) {
  return value === null || value === undefined ? "–" : String(Number(Number(value).toPrecision(digits)));
}

/** How a line of this method is drawn: lines of equal or similar colours differ by their dashes. */
export function dashOf(methods, index) {
  const before = methods.slice(0, index).filter((other) => alike(other.colour, methods[index].colour)).length;
  return ["none", "7 4", "2 4", "10 3 2 3", "1 3", "12 5"][before];
}

function alike(first, second) {
  const parts = [1, 3, 5].map((at) => parseInt(first.slice(at, at + 2), 16) - parseInt(second.slice(at, at + 2), 16));
  return Math.hypot(...parts) < 120;
}
