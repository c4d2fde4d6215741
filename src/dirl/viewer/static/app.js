// The page: reads the scene, opens entries, and carries every change of the state to the panes and the link.

import { buildControls, syncControls } from "./controls.js";
import { $, get, toast } from "./dom.js";
import { Nuclei, Regions, drawChosen, drawGrid, drawMeasure, tileAt, tilesIn } from "./drawing.js";
import { listenToKeys } from "./keys.js";
import { Pane } from "./pane.js";
import { fromLink, state, toLink } from "./state.js";
import { TilePanel } from "./tile.js";

const app = { scene: null, entry: null, panes: [], panel: null, values: [null, null], leader: 0 };

async function start() {
  app.scene = await get("/api/scene");
  document.title = `${app.scene.title} · dirl view`;
  const redraw = () => app.panes.forEach((pane) => pane.redraw());
  app.nuclei = new Nuclei(redraw);
  app.regions = new Regions(redraw);
  app.panes = [0, 1].map((number) => new Pane($("panes"), number, (pane, context) => paint(pane, context, number)));
  app.panes.forEach((pane, number) => connect(pane, number));
  app.panel = new TilePanel($("tile"), app.scene, () => moves.choose(null), moves.jump);
  setDefaults();
  fromLink(window.location.hash, app.scene);
  buildControls(app);
  listenToKeys(app);
  window.addEventListener("hashchange", () => {
    if (window.location.hash === toLink(app.scene)) return;
    fromLink(window.location.hash, app.scene);
    open();
  });
  await open();
}

function setDefaults() {
  const { audit, maps } = app.scene;
  if (audit) {
    state.measure = { name: audit.primary, block: audit.encoders[0].blocks - 1, head: -2 };
    state.panes[1].encoder = Math.min(1, audit.encoders.length - 1);
  }
  if (maps.length) {
    state.entry = maps[0].entry;
    state.by = "map";
  }
}

// The other pane follows the one that the reader moves.
function connect(pane, number) {
  const lead = () => { app.leader = number; };
  for (const name of ["canvas-enter", "canvas-press", "canvas-scroll", "canvas-pinch"]) {
    pane.viewer.addHandler(name, lead);
  }
  pane.viewer.addHandler("viewport-change", () => {
    if (!app.entry || app.leader !== number) return;
    if (state.split) app.panes[1 - number].follow(pane);
    remember();
  });
  pane.viewer.addHandler("canvas-click", (event) => {
    if (!event.quick || !app.entry) return;
    const i = tileAt(app.entry, ...pane.where(event.position));
    moves.choose(i === null ? null : app.entry.numbers[i]);
  });
}

let writing;
function remember() {
  clearTimeout(writing);
  writing = setTimeout(() => {
    if (!app.entry) return;
    state.place = app.panes[app.leader].look();
    write();
  }, 200);
}

function write() {
  window.history.replaceState(null, "", toLink(app.scene));
}

// Open the entry of the state, at its place.
let opening = 0;
async function open() {
  const mine = ++opening;
  const number = state.entry;
  app.entry = null;
  document.body.removeAttribute("data-ready");
  app.panes[1].element.hidden = !state.split;
  try {
    const entry = await get(`/api/entries/${number}`);
    if (mine !== opening) return;
    await Promise.all(app.panes.map((pane, i) => (i === 0 || state.split ? pane.show(number, entry) : null)));
    if (mine !== opening) return;
    await frames(3); // OpenSeadragon needs time to read the new size of its panes
    app.entry = entry;
  } catch (error) {
    toast(error.message);
    return;
  }
  app.leader = 0;
  if (state.place) app.panes[0].go(state.place); else app.panes[0].fit(true);
  await apply();
  await moves.choose(state.tile);
  document.body.dataset.ready = "yes";
}

async function frames(count) {
  for (let i = 0; i < count; i += 1) await new Promise((next) => { requestAnimationFrame(next); });
}

// The map that a pane shows: the chosen one, if it is a map of this slide.
function mapOf(side) {
  const { map, channel } = state.panes[side];
  const held = app.scene.maps[map];
  return state.by === "map" && held && held.entry === state.entry ? { map, channel, held } : null;
}
app.mapOf = mapOf;

// Lowest and highest value of a pane's colours.
function spanOf(side) {
  const sides = state.common && state.split ? [0, 1] : [side];
  const ends = sides.map((one) => {
    if (state.by === "map") return mapOf(one)?.held.channels[state.panes[one].channel].range;
    const known = (app.values[one] ?? []).filter((value) => value !== null);
    return known.length ? [Math.min(...known), Math.max(...known)] : undefined;
  }).filter(Boolean);
  if (!ends.length) return [0, 1];
  const [low, high] = [Math.min(...ends.map(([end]) => end)), Math.max(...ends.map(([, end]) => end))];
  return [state.range[0] ?? low, state.range[1] ?? high];
}
app.spanOf = spanOf;

// Apply the state to the panes.
async function apply() {
  if (!app.entry) return;
  const second = app.panes[1];
  second.element.hidden = !state.split;
  if (state.split && second.entry !== app.entry) await second.show(state.entry, app.entry);
  if (!app.entry) return;
  if (state.by === "measure") await readValues();
  if (!app.entry) return;
  app.panes.forEach((pane, side) => {
    if (side && !state.split) return;
    pane.showTissue(state.entry, state.show.tissue && app.entry.tissue);
    const shown = mapOf(side);
    const span = spanOf(side);
    pane.showMap(shown?.map, shown?.held ?? null, shown?.channel, state.colours, span, state.opacity);
    const palette = app.scene.colours[state.colours];
    if (shown) {
      pane.legend(palette, span, shown.held.unit);
      pane.say(pane.heading, `${shown.held.name} · ${shown.held.channels[shown.channel].name}`);
    } else if (state.by === "measure") {
      const { name, block } = state.measure;
      pane.legend(palette, span, app.scene.audit.measures.find((one) => one.name === name).title);
      pane.say(pane.heading, `${app.scene.audit.encoders[state.panes[side].encoder].name}, block ${block}`);
    } else {
      pane.legend(null);
      pane.say(pane.heading, "");
    }
  });
  syncControls(app);
  app.panel.look(views(), box());
  write();
  await frames(3); // as above
  if (state.split) app.panes[1 - app.leader].follow(app.panes[app.leader]);
  app.panes.forEach((pane) => pane.redraw());
}
app.apply = apply;

async function readValues() {
  const { name, block, head } = state.measure;
  const paths = [0, 1].map((side) => {
    const number = state.panes[side].encoder;
    const { blocks, heads } = app.scene.audit.encoders[number];
    const query = new URLSearchParams({ measure: name });
    return block < blocks && head < heads ? `/api/entries/${state.entry}/measures/${number}/${block}/${head}?${query}` : null;
  });
  app.values = await Promise.all(paths.map((path) => path && get(path).catch(() => null)));
}

function paint(pane, context, side) {
  if (!app.entry) return "";
  const place = pane.placed();
  const tiles = tilesIn(app.entry, pane.inSight());
  if (state.by === "measure" && app.values[side]) {
    const palette = app.scene.colours[state.colours];
    drawMeasure(context, app.entry, tiles, place, app.values[side], palette, spanOf(side), state.opacity);
  }
  if (state.show.grid) drawGrid(context, app.entry, tiles, place);
  let hint = "";
  if (state.show.nuclei && app.scene.cells.length) {
    hint = app.nuclei.draw(context, state.entry, app.entry, state.cells, tiles, place);
  }
  const shown = mapOf(side);
  if (state.show.regions && shown) app.regions.draw(context, shown.map, place);
  const chosen = app.entry.numbers.indexOf(state.tile);
  if (chosen >= 0) drawChosen(context, app.entry, chosen, place);
  return hint;
}

// The views of the panes, for the panel of a tile.
function views() {
  return [0, 1].filter((side) => side === 0 || state.split).map((side) => {
    const shown = mapOf(side);
    if (!shown) return null;
    const [low, high] = spanOf(side);
    const heads = shown.held.channels.map((one) => one.name);
    const query = { colours: state.colours, from: low, to: high };
    const name = `${shown.held.name}, ${heads[shown.channel]}`;
    return { map: shown.map, channel: shown.channel, query, name, model: shown.held.name, heads };
  }).filter(Boolean);
}

function box() {
  const i = app.entry?.numbers.indexOf(state.tile) ?? -1;
  return i < 0 ? null : { x: app.entry.x[i], y: app.entry.y[i], side: app.entry.side_px };
}

const lead = () => { app.leader = 0; return app.panes[0]; };

// Actions of keys and buttons.
const moves = {
  zoom(factor) { lead().viewer.viewport.zoomBy(factor); },
  pan(x, y) {
    const { viewport } = lead().viewer;
    const bounds = viewport.getBounds();
    viewport.panBy(new window.OpenSeadragon.Point((x * bounds.width) / 5, (y * bounds.height) / 5));
  },
  fit() { lead().fit(); },
  native() { const pane = lead(); pane.go({ ...pane.look(), mpp: app.entry.mpp }, false); },
  async open(number) {
    if (number < 0 || number >= app.scene.entries.length) return;
    Object.assign(state, { entry: number, place: null, tile: null });
    const ours = app.scene.maps.findIndex((one) => one.entry === number);
    const fits = (pane) => app.scene.maps[pane.map]?.entry === number;
    for (const pane of state.panes) if (!fits(pane) && ours >= 0) Object.assign(pane, { map: ours, channel: 0 });
    await open();
  },
  async choose(number) {
    state.tile = app.entry && app.entry.numbers.includes(number) ? number : null;
    app.panes.forEach((pane) => pane.redraw());
    write();
    if (state.tile === null) app.panel.clear();
    else await app.panel.show(number, views(), box()).catch((error) => toast(error.message));
  },
  // Go to a tile of any entry, at the current magnification.
  async jump(number) {
    const { mpp } = app.panes[0].look();
    const { entry } = await get(`/api/tiles/${number}`);
    if (entry !== state.entry) {
      Object.assign(state, { entry, place: null, tile: null });
      await open();
    }
    const i = app.entry.numbers.indexOf(number);
    const half = app.entry.side_px / 2;
    lead().go({ x: app.entry.x[i] + half, y: app.entry.y[i] + half, mpp }, false);
    await moves.choose(number);
  },
  async split() {
    state.split = !state.split;
    app.leader = 0;
    const { maps } = app.scene;
    const [left, right] = state.panes;
    // The second pane starts with another map, if there is one.
    const other = maps.findIndex((one, i) => one.entry === state.entry && i !== left.map);
    if (state.split && other >= 0 && right.map === left.map && right.channel === left.channel) {
      Object.assign(right, { map: other, channel: 0 });
    }
    await apply();
  },
  async copy() {
    try {
      await navigator.clipboard.writeText(window.location.href);
      toast("Link copied");
    } catch {
      toast("Copy the link from the address bar");
    }
  },
};

app.moves = moves;
start().catch((error) => toast(`The viewer's server does not answer: ${error.message}`));
