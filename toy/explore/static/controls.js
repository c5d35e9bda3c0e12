// Methods, settings and the numbers of the methods: all made from the catalogue, so that new ones appear by themselves.

import { html, numberName, short } from "./dom.js";

const LABELS = {
  optimizer: "optimiser", lr: "step size", form: "IFT's form", prediction: "IFT's prediction", start: "start policy",
  start_suboptimal_share: "share of the second way in the start", negatives: "negatives", seeds: "seeds", seed: "first seed", steps: "updates",
};
const HELP = {
  form: "sum: the paper's equation; product: as in the released code",
  prediction: "which of the policy's own moves makes the state that is mixed in",
  start: "both: trained on both ways; noisy: between optimum and chance; random: not trained",
  start_suboptimal_share: "above 0.5 a start of the kind “both” prefers the second way",
  negatives: "where the worse trajectories of DPO, ORPO and similar methods come from",
  steps: "after so many updates the training pauses; play goes on",
};

/** The chooser of methods, with a line for variants. */
export function methodChooser(catalogue, state, change) {
  const [fewest, most] = catalogue.methodCounts;
  const set = (methods) => change({ methods });
  const without = (name) => state.methods.filter((other) => other !== name);
  const chip = (name, colour, title) => {
    const on = state.methods.includes(name);
    const stuck = on ? state.methods.length <= fewest : state.methods.length >= most;
    const button = html("button", { type: "button", "aria-pressed": String(on), title: stuck ? `${fewest} to ${most} methods stand side by side` : title, disabled: stuck, "data-method": name,
      onclick: () => set(on ? without(name) : [...state.methods, name]) }, name);
    button.style.setProperty("--colour", colour);
    return button;
  };
  const colourOf = (name) => catalogue.methods.find((each) => each.name === name.split(":")[0])?.colour;
  const variants = state.methods.filter((name) => name.includes(":"));
  const input = html("input", { type: "text", id: "variant", placeholder: "ift:lam=0", size: 9, maxlength: 80, "aria-describedby": "variant-help" });
  const add = (event) => {
    event.preventDefault();
    if (input.value.trim()) set([...state.methods, input.value.trim()]);
  };
  return [
    html("div", { class: "chips" }, ...catalogue.methods.map((each) => chip(each.name, each.colour, `${each.title}: ${each.help}`)), ...variants.map((name) => chip(name, colourOf(name), "a variant"))),
    html("form", { class: "row", onsubmit: add }, html("label", { for: "variant" }, "variant"), input, html("button", { type: "submit", disabled: state.methods.length >= most }, "add")),
    html("p", { class: "note", id: "variant-help" }, "A variant is a method with a number or a setting of its own."),
  ];
}

/** The protocol and its settings; those that differ from the protocol's are bold. */
export function settingFields(catalogue, state, change) {
  const protocol = catalogue.protocols.find((each) => each.name === state.protocol) ?? catalogue.protocols[0];
  const set = (name, value) => {
    const settings = { ...state.settings };
    if (value === protocol.settings[name]) delete settings[name];
    else settings[name] = value;
    change({ settings });
  };
  const protocols = select("protocol", catalogue.protocols.map((each) => each.name), state.protocol, (value) => change({ protocol: value, settings: {}, numbers: {} }));
  const fields = catalogue.settings.filter((setting) => setting.name !== "start_suboptimal_share" || (state.settings.start ?? protocol.settings.start) === "both").map((setting) => {
    const value = state.settings[setting.name] ?? protocol.settings[setting.name];
    const id = `setting-${setting.name}`;
    const input = setting.choices ? select(id, setting.choices, value, (chosen) => set(setting.name, chosen))
      : html("input", { type: "number", id, value: short(value, 6), step: setting.whole ? 1 : "any", min: 0, max: setting.most,
        onchange: (event) => { if (event.target.value !== "") set(setting.name, Number(event.target.value)); } });
    const changed = setting.name in state.settings ? "field changed" : "field";
    return html("div", { class: changed }, html("label", { for: id, title: HELP[setting.name] }, LABELS[setting.name] ?? setting.name.replaceAll("_", " ")), input);
  });
  const [lr, ...others] = [fields[1], fields[0], ...fields.slice(2)];
  return [
    html("div", { class: "field" }, html("label", { for: "protocol" }, "protocol"), protocols),
    html("p", { class: "note" }, protocol.summary), others[0], lr, ...others.slice(1),
  ];
}

/** Sliders of a method's numbers; what a variant fixes is only said. */
export function numberSliders(catalogue, state, method, change) {
  const value = catalogue.methods.find((each) => each.name === method.method);
  const fixed = (method.name.split(":")[1] ?? "").split(",").map((each) => each.split("=")[0]);
  return (value?.numbers ?? []).map((number) => {
    const key = `${method.method}.${number.name}`;
    const now = method.numbers[number.name];
    if (fixed.includes(number.name)) return html("p", { class: "note" }, `${numberName(number.name)} = ${short(now)}, as the variant says`);
    const set = (text) => {
      if (text === "" || Number.isNaN(Number(text))) return;
      slider.value = box.value = text;
      change({ numbers: { ...state.numbers, [key]: Number(text) } });
    };
    const label = `${method.name} ${numberName(number.name)}`;
    const finite = number.low !== null && number.high !== null;
    const top = finite ? number.high : Math.max(2 * number.default, 1);
    const slider = html("input", { type: "range", min: number.low ?? -top, max: top, step: top / 100, value: now, "aria-label": label, "data-number": key, oninput: (event) => set(event.target.value) });
    const box = html("input", { type: "number", min: number.low, max: number.high, step: "any", value: short(now, 6), "aria-label": `${label} as a number`, onchange: (event) => set(event.target.value) });
    return html("label", { class: "slider", title: `${number.help}; it must be ${number.allowed}` }, html("span", { class: "name" }, numberName(number.name)), slider, box);
  });
}

/** A choice of words. */
export function select(id, choices, value, onChange) {
  const options = choices.map((choice) => html("option", { value: choice, selected: choice === value }, choice));
  return html("select", { id, onchange: (event) => onChange(event.target.value) }, ...options);
}
