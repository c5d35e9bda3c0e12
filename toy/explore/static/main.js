// The page: what it is set to, what the server sends, and who draws it.

import { Connection } from "./connection.js";
import { methodChooser, numberSliders, select, settingFields } from "./controls.js";
import { axisSwitch, Curves } from "./curves.js";
import { html } from "./dom.js";
import { Editor } from "./editor.js";
import { explain, widest } from "./explain.js";
import { keepButtons } from "./keep.js";
import { legend, Panels } from "./panels.js";
import { fromFragment, requestOf, SPEEDS, stateOf, toFragment } from "./state.js";

const MOST_FRAMES = 240; // kept for a replay
const PATIENCE = 120; // milliseconds without a change before the server is told of it
const SHADES = { distance: "distance to the optimum", visits: "visits", scored: "what the training scores" };
const place = (id) => document.getElementById(id);

const catalogue = await (await fetch("/catalogue")).json();
let state;
let run = null;
let frame = null;
let frames = [];
let status = "paused";
let waiting = null;
let fromLink = false; // whether the server has yet to accept what a link asks for
let pinned = ""; // a message that stays until the next change or play

const panels = new Panels(place("panels"), place("inspector"), (method) => numberSliders(catalogue, state, method, change));
const curves = new Curves(place("curves"));
const editor = new Editor(place("editor"), catalogue.sides, change);
const keep = keepButtons({ send: (message) => line.send(message), recording: () => ({ run, frames, shade: state.shade, sentence: place("sentence").textContent }), steps: () => setting("steps") });
place("keep").replaceChildren(keep.element);

/** What a setting is: as changed, or as the protocol has it. */
function setting(name) {
  return state.settings[name] ?? catalogue.protocols.find((each) => each.name === state.protocol)?.settings[name];
}

/** Take over a change of the state, show it, and tell the server once no other follows at once. */
function change(part) {
  pinned = "";
  Object.assign(state, part);
  history.replaceState(null, "", `#${toFragment(state)}`);
  if (!("numbers" in part && Object.keys(part).length === 1)) showControls(); // a slider that is held must stay
  showPresets();
  clearTimeout(waiting);
  waiting = setTimeout(() => line.send({ type: "set", request: requestOf(state) }), PATIENCE);
}

function choosePreset(preset) {
  state = { ...stateOf(preset.request), speed: state.speed };
  place("sentence").textContent = preset.sentence;
  editor.show(state.map, state.slippery);
  change({});
}

function showControls() {
  const focused = document.activeElement?.id;
  place("methods").replaceChildren(...methodChooser(catalogue, state, change));
  place("settings").replaceChildren(...settingFields(catalogue, state, change));
  place("axis").replaceChildren(axisSwitch(state.axis, (axis) => { state.axis = axis; showAxis(); }));
  place("legend").replaceChildren(...legend(state.shade));
  showTransport();
  if (focused) place(focused)?.focus();
}

function showPresets() {
  const preset = catalogue.presets.find((each) => toFragment(stateOf(each.request)) === toFragment({ ...state, axis: "updates", speed: 20 }));
  place("presets").replaceChildren(...catalogue.presets.map((each) => html("button", { type: "button", "data-preset": each.name, "aria-pressed": String(each === preset), onclick: () => choosePreset(each) }, each.title)));
  place("sentence").textContent = preset?.sentence ?? "Your own lake: press play, and read below what one sees.";
}

function showAxis() {
  history.replaceState(null, "", `#${toFragment(state)}`);
  if (run) curves.draw(run, state.axis);
}

function showTransport() {
  const busy = status === "preparing" || status === "saving";
  const playing = status === "playing";
  const send = (type) => () => line.send({ type });
  const shade = select("shade", catalogue.shades, state.shade, (value) => change({ shade: value }));
  for (const option of shade.options) option.textContent = SHADES[option.value] ?? option.value;
  const speed = select("speed", SPEEDS.map(String), String(state.speed), (value) => { state.speed = Number(value); showAxis(); line.send({ type: "speed", updates: state.speed }); });
  for (const option of speed.options) option.textContent = option.value === "1000" ? "as fast as it can" : `${option.value} updates/s`;
  const focused = document.activeElement?.id;
  place("transport").replaceChildren(
    html("button", { type: "button", id: "play", class: "play primary", disabled: busy || !run, onclick: send(playing ? "pause" : "play") }, playing ? "❚❚ Pause" : "▶ Play"),
    html("button", { type: "button", id: "step", disabled: busy || !run, onclick: send("step") }, "One update"),
    html("button", { type: "button", id: "reset", disabled: busy || !run, onclick: send("reset") }, "Reset"),
    html("span", { class: "count", id: "count", "aria-live": "off" }, counted()),
    html("label", {}, "speed ", speed), html("label", {}, "colour ", shade));
  if (focused) place(focused)?.focus();
}

function counted() {
  if (status === "preparing") return "preparing …";
  if (status === "saving") return "saving …";
  return frame ? `update ${frame.update}` : "";
}

function say(text) {
  place("message").textContent = text;
  place("message").hidden = !text;
}

const hear = {
  run(message) {
    const same = run && !message.anew;
    run = message;
    if (!same) {
      frames = [];
      curves.clear();
    }
    say(pinned);
    fromLink = false;
    editor.say("");
    if (same && document.activeElement?.dataset?.number && panels.fits(run)) panels.take(run);
    else panels.show(run);
    place("curves-note").textContent = `mean over ${run.seeds} seeds; the band is the 95 % interval of the mean`;
  },
  frame(message) {
    frame = message;
    if (frames.at(-1)?.update === frame.update) frames.pop();
    frames.push(frame);
    if (frames.length > MOST_FRAMES) frames = frames.filter((_, i) => i % 2 === 0 || i === frames.length - 1);
    curves.add(frame);
    requestDrawing();
  },
  state(message) {
    status = message.state;
    if (status === "playing") say(pinned = "");
    showTransport();
  },
  refused(message) {
    if (fromLink) fallBack(message.message);
    else if (/^(map|suboptimal)\b/.test(message.message)) editor.say(lakeTrouble(message.message));
    else say(message.message);
  },
  saved(message) {
    keep.say(`Written to ${message.folder}, the folder of the command above.`);
  },
};

/** What a link asks for was refused: show the first preset, and keep the reason on the page. */
function fallBack(reason) {
  fromLink = false;
  choosePreset(catalogue.presets[0]);
  say(pinned = `The link asks for what cannot be shown: ${reason}. This is the first preset.`);
}

function lakeTrouble(text) {
  if (!text.startsWith("suboptimal")) return `This lake cannot be used: ${text.replace(/^map /, "it ")}. The last one goes on.`;
  return "This lake has no second way to the goal, and this protocol's start is trained on two. Open another way, or set the start policy to “noisy”. The last lake goes on.";
}

place("widest").onclick = () => {
  const found = run && frame && widest(run, frame);
  if (found) panels.choose(found.cell);
};

let drawing = false;
function requestDrawing() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if (!run || !frame || run.methods.some((method) => !frame.methods[method.name])) return;
    panels.update(frame, state.shade);
    curves.draw(run, state.axis);
    place("count").textContent = counted();
    place("why").replaceChildren(...explain(run, frame));
    keep.show(run, frame.update);
  });
}

const line = new Connection(
  (message) => hear[message.type]?.(message),
  (open, again) => {
    if (open) {
      line.send({ type: "speed", updates: state.speed });
      if (again) say(pinned = "The server is back: the training begins anew.");
      const wanted = requestOf(state);
      if (run) line.send({ type: "set", request: run.request }); // the last that was accepted, then what is drawn now
      if (!run || JSON.stringify(run.request) !== JSON.stringify(wanted)) line.send({ type: "set", request: wanted });
    } else {
      status = "preparing";
      say("The server does not answer: start python -m toy.explore again. This page goes on trying.");
      showTransport();
      place("count").textContent = "no server";
    }
  },
);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, button, summary")) return;
  const act = { " ": "play", n: "step", r: "reset", d: "widest" }[event.key.toLowerCase()];
  const preset = catalogue.presets[Number(event.key) - 1];
  if (!act && !preset) return;
  event.preventDefault();
  if (act) place(act).click();
  else choosePreset(preset);
});
addEventListener("hashchange", () => begin());

/** Take the state from the URL; the server judges it. */
function begin() {
  try {
    state = fromFragment(location.hash.slice(1), catalogue);
  } catch (error) {
    state = stateOf(catalogue.presets[0].request);
    return fallBack(error.message);
  }
  fromLink = true;
  editor.show(state.map, state.slippery);
  showControls();
  showPresets();
  return line.send({ type: "set", request: requestOf(state) });
}
begin();
