// What the frame shows, in sentences: made from its numbers, so that they hold for any lake that somebody draws.

import { ARROWS, html, short } from "./dom.js";

const CLEAR = 1.02; // a ratio that is worth a sentence

/** What a frame shows, as items of a list: a heading and a sentence each. */
export function explain(run, frame) {
  return sentences(run, frame).map(([heading, sentence]) => html("li", {}, html("b", {}, heading), " ", sentence));
}

function sentences(run, frame) {
  const methods = whole(run, frame);
  if (!methods.length) return [["Broken.", "Every run has broken: take a smaller step size."]];
  if (!frame.update) return atTheStart(run, frame, methods);
  return [...difference(run, frame), ...success(frame, methods), ...order(frame, methods), ...travelled(frame, methods), ...mixing(run, frame, methods)];
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
    ["Press play.", `All methods start from the same ${run.seeds} policies, which reach the goal with probability ${now.curves.success[0].toFixed(2)}.`],
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
    if (!lines.length) return ["λ mixes nothing.", `The cells that ${method.name} predicts are the target's own at every step.`];
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
  if (!found) return [];
  const { first, second, cell, gap } = found;
  const heading = `Why ${first.name} and ${second.name} differ.`;
  if (gap < 0.005) return [[`${first.name} and ${second.name} are alike.`, "Their policies are the same in every cell, to within 0.005."]];
  const [a, b] = [first, second].map((method) => frame.methods[method.name]);
  const columns = run.rows[0].length;
  const moves = a.policy[cell].map((chance, move) => Math.abs(chance - b.policy[cell][move]));
  const move = moves.indexOf(Math.max(...moves));
  const chances = [a, b].map((now) => now.policy[cell][move].toFixed(2));
  const where = `row ${Math.floor(cell / columns) + 1}, column ${(cell % columns) + 1}`;
  return [[heading, `They differ most in ${where}: ${first.name} moves ${ARROWS[move]} with probability ${chances[0]}, ${second.name} with ${chances[1]}. ${reason(run, first, second, b, cell)}`]];
}

/** Why the second of two methods differs in a cell: by the states that it mixes in, or by how it weighs the target's steps. */
function reason(run, first, second, now, cell) {
  const step = run.targets[0].findIndex(([each]) => each === cell);
  if (second.numbers.lam > 0 && (now.mixed ?? []).some(([, to]) => to === cell)) return `${second.name} mixes this cell into its states, so its update moves the policy here directly.`;
  const place = step < 0 ? "The target never comes here, so this is a side effect of what is learnt on its way: cells share one network." : `This is step ${step + 1} of the target's ${run.targets[0].length}.`;
  return `${place} ${weighing(run, first, second, step)}`;
}

function weighing(run, first, second, step) {
  if (first.name !== "sft" || second.method !== "ift") return "The two methods take steps of different length or direction there.";
  if (!(second.numbers.gamma > 0)) return second.numbers.lam > 0 ? "With γ = 0 only the states that λ mixed in can make a difference." : "With λ = 0 and γ = 0 the two losses are the same.";
  if (second.form !== "sum") return "IFT weighs the loss of each step by the losses from there to the end, so early steps and steps before an unsure one count more than in SFT.";
  const last = run.targets[0].length;
  const counted = step > 0 ? step + 1 : last;
  const weight = Array.from({ length: counted }, (_, i) => second.numbers.gamma ** i).reduce((sum, value) => sum + value);
  const shared = step === 0 ? "IFT counts this first step as SFT does, but later ones more: " : "IFT's sum lets each step answer for those after it: ";
  return `${shared}${counted === last ? "the last step" : "this step"} counts ${short(weight, 2)} times where SFT counts it once, so its gradient is longer and speaks more of the end of the way.`;
}

function mean(frame, method, metric) {
  return frame.methods[method.name].curves[metric][0];
}

function greedy(chances) {
  return chances.indexOf(Math.max(...chances));
}
