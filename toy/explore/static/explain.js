// What the frame shows, in sentences: made from its numbers, so that they hold for any lake that somebody draws.

import { ARROWS, html, short } from "./dom.js";

const CLEAR = 1.02; // a ratio that is worth a sentence

/** What matters most in a frame: where the first two methods differ, and why; a heading and a sentence. */
export function headline(run, frame) {
  const methods = whole(run, frame);
  if (!methods.length) return said(["Broken.", "Every run has broken: take a smaller step size."]);
  return said(frame.update ? difference(run, frame) : ["Press play.", `All methods start from the same ${run.seeds} policies, which reach the goal with probability ${mean(frame, methods[0], "success").toFixed(2)}.`]);
}

/** What else a frame shows, as items of a list. */
export function explain(run, frame) {
  const methods = whole(run, frame);
  if (!methods.length) return [];
  const sentences = frame.update ? [...success(frame, methods), ...order(frame, methods), ...travelled(frame, methods), ...mixing(run, frame, methods)] : atTheStart(run, frame, methods);
  return sentences.map((sentence) => html("li", {}, ...said(sentence)));
}

function said([heading, sentence]) {
  return [html("b", {}, heading), ` ${sentence}`];
}

/** The methods whose numbers are there, which broken runs have not. */
function whole(run, frame) {
  return run.methods.filter((method) => frame.methods[method.name]?.policy && Object.values(frame.methods[method.name].curves).every(Boolean));
}

function atTheStart(run, frame, methods) {
  const now = frame.methods[methods[0].name];
  const steps = run.targets[0];
  const wrong = steps.filter(([cell, action]) => greedy(now.policy[cell]) !== action).length;
  const ties = steps.filter(([cell]) => run.optimum[cell].filter((chance) => chance > 0).length > 1).length;
  return [
    ["What is to be learnt.", wrong ? `At ${wrong} of the target's ${steps.length} steps this policy prefers another move than the target's: this is what there is to learn.`
      : `At each of the target's ${steps.length} steps this policy already prefers the target's move: what is left to learn is certainty.`],
    ...(run.request.slippery ? [["Slippery ice.", "The optimum often steers into the edge or away from its way: it lets a slip do the work where the aimed move could end in a hole."]] : []),
    ...(ties ? [["Equal moves.", `At ${ties} of the target's steps another move is just as good, and the target shows only one.`]] : []),
  ];
}

function order(frame, methods) {
  const ranked = (metric) => [...methods].sort((a, b) => mean(frame, a, metric) - mean(frame, b, metric));
  const list = (names, metric) => names.map((method) => `${method.name} (${short(1000 * mean(frame, method, metric), 4)})`).join(", ");
  const [parameters, policies] = [ranked("parameter_mse"), ranked("policy_mse")];
  const same = parameters.every((method, i) => method === policies[i]);
  return [
    ["Closest parameters first.", `${list(parameters, "parameter_mse")}.`],
    ["Closest policies first.", `${list(policies, "policy_mse")}: ${same ? "the same order" : "another order"}.`],
  ];
}

function travelled(frame, methods) {
  const ranked = [...methods].sort((a, b) => mean(frame, b, "travelled") - mean(frame, a, "travelled"));
  const [far, near] = [ranked[0], ranked.at(-1)];
  const ratio = mean(frame, far, "travelled") / mean(frame, near, "travelled");
  if (!(ratio > CLEAR)) return [["Length of the way.", "All methods have travelled equally far from the start."]];
  return [["Length of the way.", `${far.name} has travelled ${short(ratio, 3)} times as far from the start as ${near.name}: its gradients are longer, or keep one direction. The curves against “distance travelled” compare methods at equal distance.`]];
}

function mixing(run, frame, methods) {
  return methods.filter((method) => method.mixes && method.numbers.lam > 0 && !method.name.includes(":")).map((method) => {
    const lines = frame.methods[method.name].mixed ?? [];
    if (!lines.length) return ["λ mixes nothing at this update.", `The cells that ${method.name} predicts are the target's own at every step of the target now.`];
    const cells = [...new Set(lines.map(([, to]) => to))];
    const beside = cells.filter((cell) => run.neverVisited.includes(cell)).length;
    const where = beside ? `${beside} of them beside the target's way` : "all of them on the target's way";
    return ["λ mixes.", `${method.name} mixes ${cells.length === 1 ? "one other cell" : `${cells.length} other cells`} into its states (the lines), ${where}: there, too, it teaches the target's move.`];
  });
}

function success(frame, methods) {
  const ranked = [...methods].sort((a, b) => mean(frame, a, "success") - mean(frame, b, "success"));
  const [worst, best] = [ranked[0], ranked.at(-1)];
  const [low, high] = [mean(frame, worst, "success"), mean(frame, best, "success")];
  if (high - low < 0.02) return [["Success.", `All methods reach the goal about equally often (${low.toFixed(2)} to ${high.toFixed(2)}).`]];
  return [["Success.", `${worst.name} reaches the goal least often (${low.toFixed(2)}), ${best.name} most often (${high.toFixed(2)}).`]];
}

/** Where SFT and IFT, or else the first two methods, differ most: the two, the cell, the gap in it. Null before there are two. */
export function widest(run, frame) {
  const methods = whole(run, frame);
  const named = (name) => methods.find((method) => method.name === name);
  const [first, second] = named("sft") && named("ift") ? [named("sft"), named("ift")] : methods;
  if (!second) return null;
  const [a, b] = [first, second].map((method) => frame.methods[method.name].policy);
  const letters = run.rows.join("");
  const gaps = a.map((chances, cell) => ("GH".includes(letters[cell]) ? 0 : 1) * chances.reduce((sum, chance, move) => sum + Math.abs(chance - b[cell][move]), 0) / 2);
  const gap = Math.max(...gaps);
  return { first, second, cell: gaps.indexOf(gap), gap };
}

function difference(run, frame) {
  const found = widest(run, frame);
  if (!found) return ["One method is left.", "The runs of the others have broken: take a smaller step size."];
  const { first, second, cell, gap } = found;
  if (gap < 0.005) return [`${first.name} and ${second.name} are alike.`, "Their policies are the same in every cell, to within 0.005."];
  const [a, b] = [first, second].map((method) => frame.methods[method.name]);
  const columns = run.rows[0].length;
  const moves = a.policy[cell].map((chance, move) => Math.abs(chance - b.policy[cell][move]));
  const move = moves.indexOf(Math.max(...moves));
  const chances = [a, b].map((now) => now.policy[cell][move].toFixed(2));
  const where = `row ${Math.floor(cell / columns) + 1}, column ${(cell % columns) + 1}`;
  return [`Why ${first.name} and ${second.name} differ.`, `${weighing(first, second, run.targets[0].length)} They differ most in the marked cell (${where}): ${first.name} moves ${ARROWS[move]} with probability ${chances[0]}, ${second.name} with ${chances[1]}. ${reason(run, second, b, cell)}`];
}

/** What one of the losses does that the other does not. */
function weighing(first, second, last) {
  if (first.name !== "sft" || second.method !== "ift") return "Their losses differ, and so the length or the direction of their updates.";
  if (!(second.numbers.gamma > 0)) return second.numbers.lam > 0 ? "With γ = 0 only the states that λ mixes in can make a difference." : "With λ = 0 and γ = 0 the two losses are the same.";
  if (second.form !== "sum") return "SFT learns each step of the target by itself; IFT weighs the loss of each step by the losses from there to the end, so early steps and steps before an unsure one count more.";
  const weight = Array.from({ length: last }, (_, i) => second.numbers.gamma ** i).reduce((sum, value) => sum + value);
  const longer = second.optimizer === "sgd" ? "are longer and " : ""; // other optimisers divide the length out
  return `SFT learns each step of the target by itself. In IFT the loss of a step also counts for the steps before it, so that the last step counts ${short(weight, 2)} times, not once: IFT's updates ${longer}come more from the end of the way.`;
}

/** Why this is seen in a cell: the second method mixes it in, the target comes here, or it does not. */
function reason(run, second, now, cell) {
  const step = run.targets[0].findIndex(([each]) => each === cell);
  if (second.numbers.lam > 0 && (now.mixed ?? []).some(([, to]) => to === cell)) return `${second.name} mixes this cell into its states (λ), so that it teaches a move here directly.`;
  if (step < 0) return "The target never comes here, but all cells share one network.";
  return `This is step ${step + 1} of the target's ${run.targets[0].length}.`;
}

function mean(frame, method, metric) {
  return frame.methods[method.name].curves[metric][0];
}

function greedy(chances) {
  return chances.indexOf(Math.max(...chances));
}
