// Play, one update, reset, speed and colour. Made once: what changes are words, so that no click and no focus is lost.

import { select } from "./controls.js";
import { html } from "./dom.js";
import { SPEEDS } from "./state.js";

const SHADES = { distance: "distance to the optimum", visits: "visits", scored: "what the training scores" };

export class Transport {
  /** `send(type)` tells the server; `onSpeed(updates)` and `onShade(name)` hear of choices. */
  constructor(place, shades, send, onSpeed, onShade) {
    const button = (id, kind, text) => html("button", { type: "button", id, class: kind, disabled: true, onclick: () => send(id === "play" && this.playing ? "pause" : id) }, text);
    this.playing = false;
    this.buttons = [button("play", "play primary", "▶ Play"), button("step", "", "One update"), button("reset", "", "Reset")];
    this.count = html("span", { class: "count", id: "count", "aria-live": "off" });
    this.speed = select("speed", SPEEDS.map(String), "", (value) => onSpeed(Number(value)));
    for (const option of this.speed.options) option.textContent = option.value === "1000" ? "as fast as it can" : `${option.value} updates/s`;
    this.shade = select("shade", shades, "", onShade);
    for (const option of this.shade.options) option.textContent = SHADES[option.value] ?? option.value;
    place.replaceChildren(...this.buttons, this.count, html("label", {}, "speed ", this.speed), html("label", {}, "colour ", this.shade));
  }

  /** Show what the training does; `ready` says whether there is a training and a server. */
  show(playing, ready, count, { speed, shade }) {
    this.playing = playing;
    this.buttons[0].textContent = playing ? "❚❚ Pause" : "▶ Play";
    for (const button of this.buttons) button.disabled = !ready;
    this.count.textContent = count;
    this.speed.value = speed;
    this.shade.value = shade;
  }
}
