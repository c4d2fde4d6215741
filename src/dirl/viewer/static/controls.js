// The controls beside the panes: built once, then updated with the state.

import { $, choices, ends, fill, make } from "./dom.js";
import { classColour } from "./drawing.js";
import { state } from "./state.js";

export function buildControls(app) {
  const { scene, moves } = app;
  $("title").textContent = scene.title;
  choices($("entry"), scene.entries.map((one, i) =>
    [i, one.tiles ? `${one.name} · ${one.tiles} tiles` : one.name]), state.entry);
  $("entry").hidden = scene.entries.length < 2;
  $("entry").onchange = () => moves.open(Number($("entry").value));
  choices($("cells"), scene.cells.map((name, i) => [i, name]), state.cells);
  choices($("colours"), Object.keys(scene.colours).map((name) => [name, name]), state.colours);
  for (const name of Object.keys(state.show)) {
    $(name).onchange = () => { state.show[name] = $(name).checked; app.apply(); };
  }
  $("cells").onchange = () => { state.cells = Number($("cells").value); app.apply(); };
  for (const button of $("by").children) {
    button.onclick = () => { Object.assign(state, { by: button.value, range: [null, null] }); app.apply(); };
  }
  $("opacity").oninput = () => { state.opacity = Number($("opacity").value); app.apply(); };
  $("colours").onchange = () => { state.colours = $("colours").value; app.apply(); };
  ["from", "to"].forEach((name, i) => {
    $(name).onchange = () => { state.range[i] = $(name).value === "" ? null : Number($(name).value); app.apply(); };
  });
  $("common").onchange = () => { state.common = $("common").checked; app.apply(); };
  $("zoom-in").onclick = () => moves.zoom(1.5);
  $("zoom-out").onclick = () => moves.zoom(1 / 1.5);
  $("fit").onclick = moves.fit;
  $("native").onclick = moves.native;
  $("split").onclick = moves.split;
  $("copy").onclick = moves.copy;
  $("ask").onclick = () => $("help").showModal();
}

export function syncControls(app) {
  const { scene, entry } = app;
  $("entry").value = String(state.entry);
  $("note").textContent = entry.note;
  $("note").title = entry.note;
  $("split").setAttribute("aria-pressed", String(state.split));
  for (const name of Object.keys(state.show)) $(name).checked = state.show[name];
  $("tissue-line").hidden = !entry.tissue;
  $("grid-line").hidden = !entry.numbers.length;
  $("nuclei-line").hidden = !scene.cells.length;
  $("regions-line").hidden = ![0, 1].some((side) => app.mapOf(side)?.held.regions);
  $("cells-field").hidden = scene.cells.length < 2;
  $("cells").value = String(state.cells);
  const classes = entry.classes[scene.cells[state.cells]] ?? [];
  fill($("classes"), ...(state.show.nuclei ? classes : []).map((name, i) => {
    const dot = make("i");
    dot.style.borderColor = classColour(i);
    return make("li", {}, dot, name);
  }));

  const maps = scene.maps.map((one, i) => [i, one]).filter(([, one]) => one.entry === state.entry);
  const can = { nothing: true, map: maps.length > 0, measure: scene.audit !== null };
  $("colouring").hidden = !can.map && !can.measure;
  for (const button of $("by").children) {
    button.hidden = !can[button.value];
    button.setAttribute("aria-checked", String(button.value === state.by));
  }
  const used = state.by !== "nothing" && can[state.by];
  $("scale").hidden = !used;
  const sides = state.split ? [0, 1] : [0];
  fill($("sources"), ...(used ? sides : []).flatMap((side) =>
    (state.by === "map" ? mapFields(app, side, maps) : encoderFields(app, side))));
  if (used && state.by === "measure") $("sources").append(...measureFields(app));
  $("opacity").value = String(state.opacity);
  $("colours").value = state.colours;
  const span = ends(app.spanOf(0));
  ["from", "to"].forEach((name, i) => {
    $(name).value = state.range[i] ?? "";
    $(name).placeholder = span[i];
  });
  $("common-line").hidden = !state.split;
  $("common").checked = state.common;
}

function field(name, pairs, chosen, change) {
  const select = make("select");
  choices(select, pairs, chosen);
  select.onchange = () => change(select.value);
  return make("label", { className: "field" }, name, select);
}

const sideName = (side) => (state.split ? ["Left", "Right"][side] : null);

function titled(side, ...fields) {
  const name = sideName(side);
  return [make("div", { className: "source" }, name && make("b", { textContent: name }), ...fields)];
}

function mapFields(app, side, maps) {
  const pane = state.panes[side];
  const shown = app.scene.maps[pane.map];
  const spec = (one) => one.facts.encoder; // runs in different folders may have the same name
  const encoders = new Map(maps.map(([, one]) => [spec(one), one.encoder]));
  const alike = (name) => [...encoders.values()].filter((other) => other === name).length > 1;
  const blocks = maps.filter(([, one]) => spec(one) === spec(shown)).sort(([, a], [, b]) => a.block - b.block);
  const twice = (block) => blocks.filter(([, one]) => one.block === block).length > 1;
  const choose = ([map, one]) => {
    const channel = one.channels.length > pane.channel ? pane.channel : 0;
    Object.assign(pane, { map, channel });
    app.apply();
  };
  return titled(side,
    field("Encoder", [...encoders].map(([key, name]) => [key, alike(name) ? `${name} (${key})` : name]), spec(shown),
      (key) => {
        const own = maps.filter(([, one]) => spec(one) === key);
        choose(own.find(([, one]) => one.block === shown.block) ?? own[0]);
      }),
    field("Block", blocks.map(([i, one]) => [i, `block ${one.block}${twice(one.block) ? ` (${one.folder})` : ""}`]),
      pane.map, (value) => choose(blocks.find(([i]) => i === Number(value)))),
    shown.channels.length > 1 ? field("Heads", shown.channels.map((one, i) => [i, one.name]), pane.channel,
      (value) => { pane.channel = Number(value); app.apply(); }) : null,
    make("p", { className: "facts", textContent:
      Object.entries(shown.facts).map(([name, value]) => `${name}: ${value}`).join(" · ") }));
}

function encoderFields(app, side) {
  const pane = state.panes[side];
  return titled(side, field("Encoder", app.scene.audit.encoders.map((one, i) => [i, one.name]), pane.encoder,
    (value) => { pane.encoder = Number(value); app.apply(); }));
}

function measureFields(app) {
  const { audit } = app.scene;
  const set = (name) => (value) => {
    state.measure[name] = name === "name" ? value : Number(value);
    state.range = [null, null];
    app.apply();
  };
  const { blocks, heads } = audit.encoders[state.panes[0].encoder];
  const count = (total, name) => Array.from({ length: total }, (_, i) => [i, `${name} ${i}`]);
  return [
    field("Measure", audit.measures.map((one) => [one.name, one.title]), state.measure.name, set("name")),
    field("Block", count(blocks, "block"), state.measure.block, set("block")),
    field("Heads", [[-2, "mean of heads"], [-1, "attention averaged first"], ...count(heads, "head")],
      state.measure.head, set("head")),
  ];
}
