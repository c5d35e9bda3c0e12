// Plays a recording without a server: the same drawings as on the page, moved by a slider.

import { axisSwitch, Curves } from "./curves.js";
import { html } from "./dom.js";
import { explain, headline } from "./explain.js";
import { legend, Panels } from "./panels.js";

const { run, frames, shade, sentence } = JSON.parse(document.getElementById("recording").textContent);
const at = (id) => document.getElementById(id);
const panels = new Panels(at("panels"), at("inspector"));
const curves = new Curves(at("curves"));
const slider = html("input", { type: "range", min: 0, max: frames.length - 1, value: 0, "aria-label": "Update", oninput: () => show(Number(slider.value)) });
const play = html("button", { type: "button", class: "play primary", onclick: () => turn(timer === null) }, "▶ Play");
const count = html("span", { class: "count" });
let timer = null;
let axis = "updates";

function show(index) {
  slider.value = index;
  count.textContent = `update ${frames[index].update}`;
  curves.points = [];
  for (const frame of frames.slice(0, index + 1)) curves.add(frame);
  panels.update(frames[index], shade);
  curves.draw(run, axis);
  at("headline").replaceChildren(...headline(run, frames[index]));
  at("why").replaceChildren(...explain(run, frames[index]));
}

function turn(on) {
  clearInterval(timer);
  timer = on ? setInterval(tick, 60) : null;
  play.textContent = on ? "❚❚ Pause" : "▶ Play";
  if (on && Number(slider.value) === frames.length - 1) show(0);
}

function tick() {
  const next = Number(slider.value) + 1;
  if (next < frames.length) show(next);
  else turn(false);
}

at("transport").replaceChildren(play, slider, count);
at("sentence").textContent = sentence;
at("axis").replaceChildren(axisSwitch(axis, (chosen) => { axis = chosen; show(Number(slider.value)); }));
at("legend").replaceChildren(...legend(shade));
at("command").textContent = `${run.command} --steps ${frames.at(-1).update || 1}`;
panels.show(run);
show(0);
