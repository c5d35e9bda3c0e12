// What the frame shows, in sentences: made from its numbers, so that they hold for any lake that somebody draws.

import { ARROWS, short } from "./dom.js";

const CLEAR = 1.02; // a ratio that is worth a sentence

/** Sentences about a run at a frame. */
export function explain(run, frame) {
  const methods = run.methods.filter((method) => frame.methods[method.name]?.policy && Object.values(frame.methods[method.name].curves).every(Boolean));
  if (!methods.length) return ["Every run has broken: take a smaller step size."];
  if (!frame.update) return atTheStart(run, frame, methods);
  return [...order(frame, methods), ...travelled(frame, methods), ...mixing(run, frame, methods), ...success(frame, methods), ...difference(run, frame, methods)];
}

function atTheStart(run, frame, methods) {
  const now = frame.methods[methods[0].name];
  const steps = run.targets[0];
  const wrong = steps.filter(([cell, action]) => greedy(now.policy[cell]) !== action).length;
  const ties = steps.filter(([cell]) => run.optimum[cell].filter((chance) => chance > 0).length > 1).length;
  return [
    `All methods start from the same ${run.seeds} policies, which reach the goal with probability ${now.curves.success[0].toFixed(2)}.`,
    wrong ? `At ${wrong} of the target's ${steps.length} steps this policy prefers another move than the target's: this is what there is to learn.`
      : `At each of the target's ${steps.length} steps this policy already prefers the target's move: what is left to learn is certainty.`,
    ...(run.request.slippery ? ["On slippery ice the optimum often steers into the edge or away from its way: it lets a slip do the work where the aimed move could end in a hole."] : []),
    ...(ties ? [`At ${ties} of the target's steps another move is just as good, and the target shows only one.`] : []),
  ];
}

function order(frame, methods) {
  const ranked = (metric) => [...methods].sort((a, b) => mean(frame, a, metric) - mean(frame, b, metric));
  const list = (names, metric) => names.map((method) => `${method.name} (${short(1000 * mean(frame, method, metric), 4)})`).join(", ");
  const [parameters, policies] = [ranked("parameter_mse"), ranked("policy_mse")];
  const same = parameters.every((method, i) => method === policies[i]);
  return [
    `Between parameters, from the closest to the optimum to the farthest: ${list(parameters, "parameter_mse")}.`,
    `Between policies ${same ? "the order is the same" : "the order is another one"}: ${list(policies, "policy_mse")}.`,
  ];
}

function travelled(frame, methods) {
  const ranked = [...methods].sort((a, b) => mean(frame, b, "travelled") - mean(frame, a, "travelled"));
  const [far, near] = [ranked[0], ranked.at(-1)];
  const ratio = mean(frame, far, "travelled") / mean(frame, near, "travelled");
  if (!(ratio > CLEAR)) return ["All methods have travelled equally far from the start."];
  return [`${far.name} has travelled ${short(ratio, 3)} times as far from the start as ${near.name}: its gradients are longer, or keep one direction. The curves against “distance travelled” compare methods at equal distance.`];
}

function mixing(run, frame, methods) {
  return methods.filter((method) => method.mixes && method.numbers.lam > 0 && !method.name.includes(":")).map((method) => {
    const lines = frame.methods[method.name].mixed ?? [];
    if (!lines.length) return `λ of ${method.name} has nothing to mix now: its predicted cells are the target's own at every step.`;
    const cells = [...new Set(lines.map(([, to]) => to))];
    const beside = cells.filter((cell) => run.neverVisited.includes(cell)).length;
    const where = beside ? `${beside} of them beside the target's way` : "all of them on the target's way";
    return `${method.name} mixes ${cells.length === 1 ? "one other cell" : `${cells.length} other cells`} into its states (the lines), ${where}: there, too, it teaches the target's move.`;
  });
}

function success(frame, methods) {
  const ranked = [...methods].sort((a, b) => mean(frame, a, "success") - mean(frame, b, "success"));
  const [worst, best] = [ranked[0], ranked.at(-1)];
  const [low, high] = [mean(frame, worst, "success"), mean(frame, best, "success")];
  if (high - low < 0.02) return [`All methods reach the goal about equally often (${low.toFixed(2)} to ${high.toFixed(2)}).`];
  return [`${worst.name} reaches the goal least often (${low.toFixed(2)}), ${best.name} most often (${high.toFixed(2)}).`];
}

/** Where SFT and IFT, or else the first two methods, differ most, and why they may. */
function difference(run, frame, methods) {
  const named = (name) => methods.find((method) => method.name === name);
  const [first, second] = named("sft") && named("ift") ? [named("sft"), named("ift")] : methods;
  if (!second) return [];
  const [a, b] = [first, second].map((method) => frame.methods[method.name]);
  const letters = run.rows.join("");
  const gaps = a.policy.map((chances, cell) => ("GH".includes(letters[cell]) ? 0 : 1) * chances.reduce((sum, chance, move) => sum + Math.abs(chance - b.policy[cell][move]), 0) / 2);
  const cell = gaps.indexOf(Math.max(...gaps));
  if (gaps[cell] < 0.005) return [`${first.name} and ${second.name} have the same policy in every cell, to within 0.005.`];
  const columns = run.rows[0].length;
  const moves = a.policy[cell].map((chance, move) => Math.abs(chance - b.policy[cell][move]));
  const move = moves.indexOf(Math.max(...moves));
  const chances = [a, b].map((now) => now.policy[cell][move].toFixed(2));
  const where = `row ${Math.floor(cell / columns) + 1}, column ${(cell % columns) + 1}`;
  return [`${first.name} and ${second.name} differ most in ${where}: probability of ${ARROWS[move]} ${chances[0]} and ${chances[1]}. ${reason(run, second, b, cell)}`];
}

function reason(run, method, now, cell) {
  const step = run.targets[0].findIndex(([each]) => each === cell);
  if ((now.mixed ?? []).some(([, to]) => to === cell) && method.numbers.lam > 0) return `${method.name} mixes this cell into its states, so its update moves the policy here directly.`;
  if (step < 0) return "The target never comes here: what happens in this cell is a side effect of what is learnt elsewhere.";
  if (step === 0 && method.mixes && method.form === "sum") return "This is the first step of the target, which IFT's sum counts as SFT does; it counts the later ones more.";
  if (method.mixes && method.form === "sum" && method.numbers.gamma > 0) {
    const weight = Array.from({ length: step + 1 }, (_, i) => method.numbers.gamma ** i).reduce((sum, value) => sum + value);
    return `This is step ${step + 1} of the target, and IFT's sum counts its loss ${short(weight, 2)} times where SFT counts it once.`;
  }
  return `This is step ${step + 1} of the target: the methods weigh its loss differently.`;
}

function mean(frame, method, metric) {
  return frame.methods[method.name].curves[metric][0];
}

function greedy(chances) {
  return chances.indexOf(Math.max(...chances));
}
