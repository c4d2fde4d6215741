// The state of the page, and its link: the part of the address after #.

export const state = {
  entry: 0,
  place: null, // {x, y, mpp}: centre in pixels of the picture, µm per screen pixel; null shows everything
  show: { tissue: false, grid: false, nuclei: false, regions: false },
  cells: 0,
  by: "nothing", // or "map", "measure"
  panes: [
    { map: 0, channel: 0, encoder: 0 },
    { map: 0, channel: 0, encoder: 0 },
  ],
  split: false,
  measure: { name: null, block: null, head: -2 },
  opacity: 60,
  colours: "inferno",
  range: [null, null],
  common: false,
  tile: null, // number in the store
};

const round = (value, digits) => String(Number(value.toFixed(digits)));

export function toLink(scene) {
  const link = new URLSearchParams();
  const entry = scene.entries[state.entry];
  link.set("slide", entry.name);
  if (state.place) {
    link.set("x", round(state.place.x, 1));
    link.set("y", round(state.place.y, 1));
    link.set("mpp", state.place.mpp.toPrecision(5));
  }
  const shown = Object.keys(state.show).filter((name) => state.show[name]);
  if (shown.length) link.set("show", shown.join(","));
  if (scene.cells.length > 1) link.set("cells", scene.cells[state.cells]);
  if (state.split) link.set("split", "1");
  if (state.by !== "nothing") {
    link.set("by", state.by);
    const sides = state.split ? 2 : 1;
    const values = state.panes.slice(0, sides).map((pane) =>
      state.by === "map" ? `${pane.map}.${pane.channel}` : String(pane.encoder));
    link.set("of", values.join(","));
    if (state.by === "measure") {
      link.set("measure", `${state.measure.name},${state.measure.block},${state.measure.head}`);
    }
    link.set("opacity", String(state.opacity));
    link.set("colours", state.colours);
    if (state.range.some((end) => end !== null)) link.set("range", state.range.map((end) => end ?? "").join(","));
    if (state.common) link.set("common", "1");
  }
  if (state.tile !== null) link.set("tile", String(state.tile));
  return `#${link}`;
}

// Read a link into the state. Unknown values are ignored.
export function fromLink(hash, scene) {
  if (hash.length < 2) return;
  const link = new URLSearchParams(hash.slice(1));
  const number = (name) => (link.has(name) && Number.isFinite(Number(link.get(name))) ? Number(link.get(name)) : null);
  const entry = scene.entries.findIndex((one) => one.name === link.get("slide"));
  state.entry = Math.max(0, entry);
  const [x, y, mpp] = ["x", "y", "mpp"].map(number);
  state.place = [x, y].includes(null) || !(mpp > 0) ? null : { x, y, mpp };
  const shown = (link.get("show") ?? "").split(",");
  for (const name of Object.keys(state.show)) state.show[name] = shown.includes(name);
  state.cells = Math.max(0, scene.cells.indexOf(link.get("cells")));
  state.split = link.get("split") === "1";
  state.by = { map: scene.maps.length && "map", measure: scene.audit && "measure" }[link.get("by")] || "nothing";
  (link.get("of") ?? "").split(",").slice(0, 2).forEach((text, side) => {
    const pane = state.panes[side];
    if (state.by === "map") {
      const [map, channel] = text.split(".").map(Number);
      if (scene.maps[map]?.channels[channel]) Object.assign(pane, { map, channel });
    } else if (scene.audit?.encoders[Number(text)]) pane.encoder = Number(text);
  });
  const [name, block, head] = (link.get("measure") ?? "").split(",");
  if (scene.audit?.measures.some((one) => one.name === name)) {
    Object.assign(state.measure, { name, block: Number(block) || 0, head: Number(head) || 0 });
  }
  if (number("opacity") !== null) state.opacity = Math.min(100, Math.max(0, number("opacity")));
  if (scene.colours[link.get("colours")]) state.colours = link.get("colours");
  const ends = (link.get("range") ?? ",").split(",");
  state.range = [0, 1].map((i) => (ends[i] && Number.isFinite(Number(ends[i])) ? Number(ends[i]) : null));
  state.common = link.get("common") === "1";
  state.tile = number("tile");
}
