// The panel of one tile: its picture and tokens, its data, its measures, its neighbours.

import { fill, get, make, short } from "./dom.js";

const REGIONS = { nuclei: "nuclei, log2", rest: "rest, log2", glass: "glass, log2" };
const percent = (share) => `${short(100 * share)} %`;

export class TilePanel {
  constructor(element, scene, close, jump) {
    Object.assign(this, { element, scene, close, jump, tile: null });
    this.clear();
  }

  clear() {
    this.tile = null;
    const pressed = this.scene.entries.some((entry) => entry.tiles);
    const text = pressed ? "Click on a tile to see its data." : "Make a store with dirl tile to see tiles.";
    fill(this.element, make("h2", { textContent: "Tile" }), make("p", { className: "soft", textContent: text }));
  }

  // views: the tile in the panes, [{map, channel, query, name}]; box: its place in the picture
  async show(number, views, box) {
    this.tile = number;
    const tile = await get(`/api/tiles/${number}`);
    if (this.tile !== number) return;
    const leave = make("button", { textContent: "×", title: "Close (Esc)", onclick: this.close });
    fill(this.element,
      make("h2", { textContent: "Tile" }),
      make("header", {}, make("h3", { textContent: tile.tile_id }), leave),
      this.images(number, views, box),
      this.heads(views, box),
      this.facts(tile),
      this.measures(tile.measures),
      this.neighbours(tile.neighbours));
  }

  // The views changed, but not the tile.
  look(views, box) {
    const images = this.element.querySelector(".images");
    if (this.tile === null || !images) return;
    images.replaceWith(this.images(this.tile, views, box));
    this.element.querySelector(".heads-of")?.replaceWith(this.heads(views, box));
  }

  images(number, views, box) {
    const own = figure(`/api/tiles/${number}.jpg`, "tile", "");
    return make("div", { className: "images" }, own, ...views.map((view) =>
      figure(piece(view.map, view.channel, view.query, box), `tokens: ${view.name}`, "tokens")));
  }

  heads(views, box) {
    const view = views.find((one) => one.heads.length > 1);
    const holder = make("div", { className: "heads-of" });
    if (view) {
      holder.append(make("h4", { textContent: `Tokens by head: ${view.model}` }), make("div", { className: "heads" },
        ...view.heads.map((name, channel) => figure(piece(view.map, channel, view.query, box), name, "tokens"))));
    }
    return holder;
  }

  facts(tile) {
    const rows = [
      ["slide", tile.slide_id],
      ["patient", tile.patient_id],
      ["centre", tile.centre],
      ["label", tile.label],
      ["corner", tile.place && `${tile.place[0]}, ${tile.place[1]} px`],
      ["side", `${short(tile.side_um)} µm`],
      ["tissue", percent(tile.tissue_fraction)],
      ...tile.nuclei.map((one) => [
        tile.nuclei.length > 1 ? `nuclei, ${one.name}` : "nuclei",
        `${one.count}, covering ${percent(one.share)}`
          + Object.entries(one.classes).map(([name, count]) => `; ${name} ${count}`).join(""),
      ]),
    ];
    return make("dl", {}, ...rows.filter(([, value]) => value).flatMap(([name, value]) =>
      [make("dt", { textContent: name }), make("dd", { textContent: value })]));
  }

  measures(encoders) {
    if (!this.scene.audit) return null;
    const title = make("h4", { textContent: "Measures, last block, mean of heads" });
    if (!encoders.length) {
      return make("div", {}, title, make("p", { className: "soft", textContent: "This tile was not audited." }));
    }
    const titles = Object.fromEntries(this.scene.audit.measures.map((one) => [one.name, one.title]));
    const line = (name, values) => make("tr", {}, make("th", { textContent: name }), ...values.map((value, i) =>
      make("td", { textContent: short(value), className: encoders[i].kind === "encoder" ? "" : "control" })));
    return make("div", {}, title, make("div", { className: "scroll" }, make("table", {},
      make("tr", {}, make("th"), ...encoders.map((one) => make("th", { textContent: one.name }))),
      ...Object.keys(encoders[0].measures).map((name) =>
        line(titles[name] ?? name, encoders.map((one) => one.measures[name]))),
      ...Object.entries(REGIONS).map(([region, name]) =>
        line(name, encoders.map((one) => one.enrichment[region]))))));
  }

  neighbours(found) {
    if (!this.scene.features) return null;
    const title = make("h4", { textContent: "Nearest neighbours, by cosine" });
    if (!found.length) {
      return make("div", {}, title, make("p", { className: "soft", textContent: "This tile has no features." }));
    }
    return make("div", {}, title, make("div", { className: "near" }, ...found.map((one) =>
      make("button", { title: `Go to this tile of ${one.slide_id}`, onclick: () => this.jump(one.number) },
        figure(`/api/tiles/${one.number}.jpg`, one.cosine.toFixed(3), "")))));
  }
}

function figure(src, caption, className) {
  return make("figure", {}, make("img", { src, className, alt: caption, loading: "lazy" }),
    make("figcaption", { textContent: caption }));
}

function piece(map, channel, query, box) {
  return `/api/maps/${map}/${channel}/piece.png?${new URLSearchParams({ ...query, ...box })}`;
}
