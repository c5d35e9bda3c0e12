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

/** The chooser of methods, with a line for variants; its parts stay, so that no click and no focus is lost. */
export class MethodChooser {
  constructor(place, catalogue, change) {
    Object.assign(this, { catalogue, change });
    this.chips = html("div", { class: "chips" }, ...catalogue.methods.map((each) => this.chip(each.name, each.colour, `${each.title}: ${each.help}`)));
    const input = html("input", { type: "text", id: "variant", placeholder: "ift:lam=0", size: 9, maxlength: 80, "aria-describedby": "variant-help" });
    const add = (event) => {
      event.preventDefault();
      if (input.value.trim()) change({ methods: [...this.methods, input.value.trim()] });
      input.value = "";
    };
    this.add = html("button", { type: "submit" }, "add");
    place.replaceChildren(this.chips, html("form", { class: "row", onsubmit: add }, html("label", { for: "variant" }, "variant"), input, this.add),
      html("p", { class: "note", id: "variant-help" }, "A variant is a method with a number or a setting of its own."));
  }

  chip(name, colour, title) {
    const choose = () => this.change({ methods: this.methods.includes(name) ? this.methods.filter((other) => other !== name) : [...this.methods, name] });
    const button = html("button", { type: "button", title, "data-method": name, "data-title": title, onclick: choose }, name);
    button.style.setProperty("--colour", colour);
    return button;
  }

  show({ methods }) {
    this.methods = methods;
    const [fewest, most] = this.catalogue.methodCounts;
    const known = new Map([...this.chips.children].map((chip) => [chip.dataset.method, chip]));
    for (const name of methods) {
      const method = this.catalogue.methods.find((each) => each.name === name.split(":")[0]);
      if (!known.has(name)) this.chips.append(this.chip(name, method?.colour, "a variant"));
    }
    for (const [name, chip] of known) if (name.includes(":") && !methods.includes(name)) chip.remove();
    for (const chip of this.chips.children) {
      const on = methods.includes(chip.dataset.method);
      const stuck = on ? methods.length <= fewest : methods.length >= most;
      chip.setAttribute("aria-pressed", String(on));
      chip.disabled = stuck;
      chip.title = stuck ? `${fewest} to ${most} methods stand side by side` : chip.dataset.title;
    }
    this.add.disabled = methods.length >= most;
  }
}

/** The protocol and its settings; those that differ from the protocol's are bold. Its parts stay as well. */
export class SettingFields {
  constructor(place, catalogue, change) {
    Object.assign(this, { catalogue, change });
    this.protocol = select("protocol", catalogue.protocols.map((each) => each.name), "", (value) => change({ protocol: value, settings: {}, numbers: {} }));
    this.summary = html("p", { class: "note" });
    this.fields = new Map(catalogue.settings.map((setting) => [setting.name, this.field(setting)]));
    place.replaceChildren(html("div", { class: "field" }, html("label", { for: "protocol" }, "protocol"), this.protocol), this.summary, ...this.fields.values());
  }

  field(setting) {
    const id = `setting-${setting.name}`;
    const input = setting.choices ? select(id, setting.choices, "", (chosen) => this.set(setting.name, chosen))
      : html("input", { type: "number", id, step: setting.whole ? 1 : "any", min: 0, max: setting.most,
        onchange: (event) => { if (event.target.value !== "") this.set(setting.name, Number(event.target.value)); } });
    return html("div", { class: "field" }, html("label", { for: id, title: HELP[setting.name] }, LABELS[setting.name] ?? setting.name.replaceAll("_", " ")), input);
  }

  set(name, value) {
    const settings = { ...this.state.settings };
    if (value === this.defaults[name]) delete settings[name];
    else settings[name] = value;
    this.change({ settings });
  }

  show(state) {
    this.state = state;
    const protocol = this.catalogue.protocols.find((each) => each.name === state.protocol) ?? this.catalogue.protocols[0];
    this.defaults = protocol.settings;
    this.protocol.value = protocol.name;
    this.summary.textContent = protocol.summary;
    const now = { ...this.defaults, ...state.settings };
    for (const [name, field] of this.fields) {
      const text = typeof now[name] === "number" ? short(now[name], 6) : now[name];
      if (field.lastChild.value !== text) field.lastChild.value = text;
      field.classList.toggle("changed", name in state.settings);
    }
    this.fields.get("start_suboptimal_share").hidden = now.start !== "both";
  }
}

/** Sliders of a method's numbers, which `numbers()` tells where they were changed; what a variant fixes is only said. */
export function numberSliders(catalogue, numbers, method, change) {
  const value = catalogue.methods.find((each) => each.name === method.method);
  const fixed = (method.name.split(":")[1] ?? "").split(",").map((each) => each.split("=")[0]);
  return (value?.numbers ?? []).map((number) => {
    const key = `${method.method}.${number.name}`;
    const now = method.numbers[number.name];
    if (fixed.includes(number.name)) return html("p", { class: "note" }, `${numberName(number.name)} = ${short(now)}, as the variant says`);
    const set = (text) => {
      if (text === "" || Number.isNaN(Number(text))) return;
      slider.value = box.value = text;
      change({ numbers: { ...numbers(), [key]: Number(text) } });
    };
    const label = `${method.name} ${numberName(number.name)}`;
    const finite = number.low !== null && number.high !== null;
    const top = finite ? number.high : Math.max(2 * number.default, 1);
    const slider = html("input", { type: "range", min: number.low ?? -top, max: top, step: top / 100, value: now, "aria-label": label, "data-number": number.name, oninput: (event) => set(event.target.value) });
    const box = html("input", { type: "number", min: number.low, max: number.high, step: "any", value: short(now, 6), "aria-label": `${label} as a number`, "data-number": number.name, onchange: (event) => set(event.target.value) });
    return html("label", { class: "slider", title: `${number.help}; it must be ${number.allowed}` }, html("span", { class: "name" }, numberName(number.name)), slider, box);
  });
}

/** A choice of words. */
export function select(id, choices, value, onChange) {
  const options = choices.map((choice) => html("option", { value: choice, selected: choice === value }, choice));
  return html("select", { id, onchange: (event) => onChange(event.target.value) }, ...options);
}
