// What the page is set to, and the same in the URL: everything that differs from the first preset can be read there.

const PLAIN = ["map", "protocol", "shade"];

export const SPEEDS = [2, 5, 10, 20, 50, 1000];

/** The state of a preset. */
export function stateOf(request) {
  return { slippery: false, settings: {}, numbers: {}, shade: "distance", ...structuredClone(request), axis: "updates", speed: 20 };
}

/** The part of a URL after "#" that says the whole state. */
export function toFragment(state) {
  const words = new URLSearchParams();
  for (const key of PLAIN) words.set(key, state[key]);
  if (state.slippery) words.set("slippery", "1");
  for (const method of state.methods) words.append("method", method);
  for (const [key, value] of Object.entries({ ...state.settings, ...state.numbers })) words.set(key, value);
  if (state.axis !== "updates") words.set("axis", state.axis);
  if (state.speed !== 20) words.set("speed", state.speed);
  return words.toString().replaceAll("%2F", "/").replaceAll("%3A", ":").replaceAll("%3D", "=");
}

/** The state that a URL asks for. What the server is told of is left for it to judge; it refuses nonsense by name. */
export function fromFragment(fragment, catalogue) {
  const words = new URLSearchParams(fragment);
  const named = words.get("preset");
  if (named !== null) {
    const preset = catalogue.presets.find((each) => each.name === named);
    if (!preset) throw new Error(`preset '${named}' is unknown (known: ${catalogue.presets.map((each) => each.name).join(", ")})`);
    return stateOf(preset.request);
  }
  const state = stateOf(catalogue.presets[0].request);
  Object.assign(state, { settings: {}, numbers: {}, slippery: false });
  const methods = words.getAll("method");
  if (methods.length) state.methods = methods;
  const settings = Object.fromEntries(catalogue.settings.map((each) => [each.name, each]));
  for (const [key, text] of words) {
    if (key === "method") continue;
    if (PLAIN.includes(key)) state[key] = text;
    else if (key === "slippery") state.slippery = text === "1";
    else if (key === "axis") state.axis = oneOf(key, text, ["updates", "travelled"]);
    else if (key === "speed") state.speed = Number(oneOf(key, text, SPEEDS.map(String)));
    else if (key.includes(".")) state.numbers[key] = asNumber(text);
    else state.settings[key] = settings[key]?.choices ? text : asNumber(text);
  }
  return state;
}

/** What the server is sent of the state. */
export function requestOf({ map, slippery, methods, protocol, settings, numbers, shade }) {
  return { map, slippery, methods, protocol, settings, numbers, shade };
}

function oneOf(key, text, choices) {
  if (!choices.includes(text)) throw new Error(`${key} must be one of ${choices.join(", ")}, got '${text}'`);
  return text;
}

function asNumber(text) {
  return text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text);
}
