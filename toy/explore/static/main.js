// The page: what it is set to, what the server sends, and who draws it.

import { Connection } from "./connection.js";
import { MethodChooser, numberSliders, SettingFields } from "./controls.js";
import { axisSwitch, Curves } from "./curves.js";
import { html } from "./dom.js";
import { Editor } from "./editor.js";
import { explain, headline } from "./explain.js";
import { keepButtons } from "./keep.js";
import { legend, Panels } from "./panels.js";
import { fromFragment, requestOf, stateOf, toFragment } from "./state.js";
import { Transport } from "./transport.js";

const MOST_FRAMES = 240; // kept for a replay
const PATIENCE = 120; // milliseconds without a change before the server is told of it
const SLOW = 4000; // milliseconds of preparing before the page says why
const place = (id) => document.getElementById(id);

const catalogue = await (await fetch("/catalogue")).json();
let state;
let run = null;
let frame = null;
let frames = [];
let status = "paused";
let waiting = null;
let fromLink = false; // whether the server has yet to accept what a link asks for
let slow = null; // says that preparing takes long
let pinned = ""; // a message that stays until the next change or play

const panels = new Panels(place("panels"), place("inspector"), (method) => numberSliders(catalogue, () => state.numbers, method, change));
const curves = new Curves(place("curves"));
const methods = new MethodChooser(place("methods"), catalogue, change);
const settings = new SettingFields(place("settings"), catalogue, change);
const transport = new Transport(place("transport"), catalogue.shades, ask, setSpeed, (shade) => change({ shade }));
const axis = axisSwitch("updates", (chosen) => { state.axis = chosen; showAxis(); });
const presets = catalogue.presets.map((each) => html("button", { type: "button", "data-preset": each.name, onclick: () => choosePreset(each) }, each.title));
place("axis").replaceChildren(axis);
place("presets").replaceChildren(...presets);
const editor = new Editor(place("editor"), catalogue.sides, change, (cell) => panels.keep(cell));
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
  showControls();
  clearTimeout(waiting);
  waiting = setTimeout(tell, PATIENCE);
}

/** Tell the server of the state. */
function tell() {
  clearTimeout(waiting);
  waiting = null;
  line.send({ type: "set", request: requestOf(state) });
}

/** Ask the server to play and the like, for what the page shows: a change that it has not heard of goes first. */
function ask(type) {
  if (waiting !== null) tell();
  line.send({ type });
}

function choosePreset(preset) {
  state = { ...stateOf(preset.request), speed: state.speed };
  editor.show(state.map, state.slippery);
  change({});
}

/** Show the state in all controls; they stay as they are but for what has changed. */
function showControls() {
  methods.show(state);
  settings.show(state);
  axis.querySelector(`[value="${state.axis}"]`).checked = true;
  place("legend").replaceChildren(...legend(state.shade));
  const preset = catalogue.presets.find((each) => toFragment(stateOf(each.request)) === toFragment({ ...state, axis: "updates", speed: 20 }));
  for (const button of presets) button.setAttribute("aria-pressed", String(button.dataset.preset === preset?.name));
  place("sentence").textContent = preset?.sentence ?? "Your own lake: press play, and read above the policies where the methods differ, and why.";
  showTransport();
}

function showAxis() {
  history.replaceState(null, "", `#${toFragment(state)}`);
  if (run) curves.draw(run, state.axis);
}

function showTransport() {
  transport.show(status === "playing", run !== null && status !== "lost", counted(), state); // a busy server answers later
}

function setSpeed(speed) {
  state.speed = speed;
  showAxis();
  line.send({ type: "speed", updates: speed });
}

function counted() {
  if (status === "lost") return "no server";
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
    if (same && panels.fits(run)) panels.take(run);
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
    clearTimeout(slow);
    if (status === "preparing") slow = setTimeout(say, SLOW, "The training is being prepared. The first one after an installation is compiled, which may take half a minute.");
    if (status === "playing") say(pinned = "");
    showTransport();
  },
  refused(message) {
    if (fromLink) fallBack(message.message);
    else if (message.message.startsWith("map")) editor.say(`This lake cannot be used: ${message.message.replace(/^map /, "it ")}. The last one goes on.`);
    else if (message.message.startsWith("suboptimal")) editor.say(...noSecondWay());
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

/** What to say of a lake on which a start policy cannot be trained on two ways, with a button that helps. */
function noSecondWay() {
  const settings = { ...state.settings, start: "noisy", ...(setting("negatives") === "suboptimal" ? { negatives: "current" } : {}) };
  const help = html("button", { type: "button", id: "noisy", onclick: () => change({ settings }) }, "Start from a noisy policy");
  return ["This lake has no second, longer way to the goal, but the start policy is trained on two ways. The last lake goes on. Open another way, or: ", help];
}

place("widest").onclick = () => panels.keep(null);

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
    place("headline").replaceChildren(...headline(run, frame));
    place("why").replaceChildren(...explain(run, frame));
    keep.show(run, frame.update);
  });
}

const line = new Connection(
  (message) => hear[message.type]?.(message),
  (open, again) => {
    if (open) {
      hear.state({ state: "preparing" });
      line.send({ type: "speed", updates: state.speed });
      if (again) say(pinned = "The server is back: the training begins anew.");
      const wanted = requestOf(state);
      if (run) line.send({ type: "set", request: run.request }); // the last that was accepted, then what is drawn now
      if (!run || JSON.stringify(run.request) !== JSON.stringify(wanted)) line.send({ type: "set", request: wanted });
    } else {
      hear.state({ state: "lost" });
      say("The server does not answer: start python -m toy.explore again. This page goes on trying.");
    }
  },
);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
  if (["Enter", " "].includes(event.key) && event.target.closest("button, summary, a")) return; // they have these keys themselves
  const act = { " ": "play", n: "step", r: "reset", d: "widest" }[event.key.toLowerCase()];
  const preset = catalogue.presets[Number(event.key) - 1];
  if (!act && !preset) return;
  event.preventDefault();
  if (act) place(act).click();
  else choosePreset(preset);
});
addEventListener("hashchange", () => begin());
document.querySelector(".skip").onclick = (event) => { // its address would take the place of the state
  event.preventDefault();
  place("panels").focus();
};

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
  return line.send({ type: "set", request: requestOf(state) });
}
begin();
