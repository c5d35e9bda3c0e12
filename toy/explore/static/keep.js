// What one takes along: the command, the link, the results, a picture and a replay.

import { html, svg } from "./dom.js";

/** Buttons and the command line; `page` gives the run, the frames and a way to ask the server. */
export function keepButtons(page) {
  const command = html("code", { id: "command" });
  const note = html("p", { class: "note", role: "status" });
  const button = (id, text, act) => html("button", { type: "button", id, onclick: () => act().catch((error) => { note.textContent = String(error); }) }, text);
  const copy = (what, text) => navigator.clipboard.writeText(text).then(() => { note.textContent = `The ${what} is copied.`; });
  const element = html("div", {},
    command,
    html("div", { class: "row" },
      button("copy-command", "Copy as command", () => copy("command", command.textContent)),
      button("copy-link", "Copy link", () => copy("link", location.href)),
      button("save", "Save results", async () => { note.textContent = "The command runs; this takes some seconds."; page.send({ type: "save" }); }),
      button("picture-svg", "Picture (SVG)", async () => download("lake.svg", new Blob([await picture()], { type: "image/svg+xml" }))),
      button("picture-png", "Picture (PNG)", async () => download("lake.png", await asPng(await picture()))),
      button("replay", "Replay (HTML)", async () => download("lake.html", new Blob([await replay(page.recording())], { type: "text/html" })))),
    note);
  const show = (run, update) => {
    const updates = update || (run.request.settings.steps ?? page.steps());
    command.textContent = `${run.command} --steps ${updates}`;
    if (run.changed.length) note.textContent = `This run was changed on its way (${run.changed.at(-1)}): the command trains from the start with the settings as they are now.`;
    else if (note.textContent.startsWith("This run")) note.textContent = "";
  };
  return { element, show, say: (text) => { note.textContent = text; } };
}

function download(name, blob) {
  const address = URL.createObjectURL(blob);
  html("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** All panels and curves as one drawing that stands by itself. */
async function picture() {
  const styles = await (await fetch("/static/drawing.css")).text();
  const colours = getComputedStyle(document.documentElement);
  const names = ["page", "paper", "ink", "muted-text", "muted", "line", "ice", "hole", "shade", "target", "off"];
  const variables = `svg{${names.map((name) => `--${name}:${colours.getPropertyValue(`--${name}`)}`).join(";")}}`;
  const boards = [...document.querySelectorAll(".panel")];
  const charts = [...document.querySelectorAll(".chart")];
  const columns = boards.length > 4 ? 3 : boards.length;
  const gap = 20;
  const side = Math.min(370, (1180 - gap) / columns - gap);
  const ratio = boards[0].querySelector(".board").viewBox.baseVal;
  const height = (side * ratio.height) / ratio.width;
  const drawing = svg("svg", { xmlns: "http://www.w3.org/2000/svg", width: 1180 });
  drawing.append(svg("style", {}, variables + styles), svg("rect", { class: "paper", width: "100%", height: "100%", fill: colours.getPropertyValue("--paper") }));
  const put = (element, x, y, width, tall) => {
    const copy = element.cloneNode(true);
    for (const [key, value] of Object.entries({ x, y, width, height: tall })) copy.setAttribute(key, value);
    drawing.append(copy);
  };
  boards.forEach((panel, i) => {
    const [x, y] = [gap + (i % columns) * (side + gap), 36 + Math.floor(i / columns) * (height + 44)];
    drawing.append(svg("text", { x, y: y - 8, "font-family": "system-ui, sans-serif", "font-weight": 700, "font-size": 16, fill: colours.getPropertyValue("--ink") }, panel.querySelector("h3").textContent.trim()));
    put(panel.querySelector(".board"), x, y, side, height);
  });
  const below = 30 + Math.ceil(boards.length / columns) * (height + 44);
  charts.forEach((chart, i) => put(chart, gap + i * 385, below, 375, 227));
  drawing.setAttribute("height", below + 245);
  drawing.setAttribute("viewBox", `0 0 1180 ${below + 245}`);
  for (const hidden of drawing.querySelectorAll(".hit, .chosen")) hidden.remove();
  return new XMLSerializer().serializeToString(drawing);
}

async function asPng(text) {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  await image.decode();
  const canvas = html("canvas", { width: 2 * image.width, height: 2 * image.height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

/** The recording in the page that plays it; its command names no folder of this machine. */
async function replay({ run, ...others }) {
  const recording = { run: { ...run, command: run.sharedCommand }, ...others };
  const page = await (await fetch("/replay")).text();
  return page.replace('"RECORDING"', () => JSON.stringify(recording).replaceAll("<", "\\u003c"));
}
