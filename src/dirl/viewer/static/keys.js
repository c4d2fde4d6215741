// Keyboard shortcuts and their help.

import { $, make } from "./dom.js";
import { state } from "./state.js";

export function listenToKeys(app) {
  const { moves } = app;
  const toggle = (name) => () => { state.show[name] = !state.show[name]; app.apply(); };
  const colourBy = (by) => () => {
    if (by === "map" ? !app.scene.maps.length : !app.scene.audit) return;
    Object.assign(state, { by: state.by === by ? "nothing" : by, range: [null, null] });
    app.apply();
  };
  const opacity = (change) => () => {
    state.opacity = Math.min(100, Math.max(0, state.opacity + change));
    app.apply();
  };
  const head = (change) => () => {
    const pane = state.panes[0];
    const count = app.scene.maps[pane.map]?.channels.length ?? 0;
    if (state.by !== "map" || count < 2) return;
    pane.channel = (pane.channel + change + count) % count;
    app.apply();
  };
  const keys = [
    [["+", "="], "zoom in", () => moves.zoom(1.5)],
    [["-"], "zoom out", () => moves.zoom(1 / 1.5)],
    [["ArrowLeft"], "move left", () => moves.pan(-1, 0)],
    [["ArrowRight"], "move right", () => moves.pan(1, 0)],
    [["ArrowUp"], "move up", () => moves.pan(0, -1)],
    [["ArrowDown"], "move down", () => moves.pan(0, 1)],
    [["0", "Home"], "the whole picture", moves.fit],
    [["1"], "one slide pixel per screen pixel", moves.native],
    [["t"], "tissue", toggle("tissue")],
    [["g"], "tile grid", toggle("grid")],
    [["n"], "nuclei", toggle("nuclei")],
    [["r"], "top regions of the map, mean of heads", toggle("regions")],
    [["a"], "attention", colourBy("map")],
    [["m"], "measure of tiles", colourBy("measure")],
    [["["], "less opaque", opacity(-10)],
    [["]"], "more opaque", opacity(10)],
    [[","], "previous head", head(-1)],
    [["."], "next head", head(1)],
    [["c"], "two panes side by side", moves.split],
    [["PageUp"], "previous slide", () => moves.open(state.entry - 1)],
    [["PageDown"], "next slide", () => moves.open(state.entry + 1)],
    [["l"], "copy a link to this place", moves.copy],
    [["Escape"], "close the tile", () => moves.choose(null)],
    [["?"], "this help", () => $("help").showModal()],
  ];
  const byName = new Map(keys.flatMap(([names, , move]) => names.map((name) => [name, move])));
  const arrows = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", "-": "−" };
  for (const [names, what] of keys) {
    $("keys").append(
      make("dt", {}, make("kbd", { textContent: arrows[names[0]] ?? names[0] })),
      make("dd", { textContent: what }));
  }
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("select, input:not([type='checkbox']), dialog");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !app.entry) return;
    const move = byName.get(event.key);
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    move();
  }, true);
}
