// One pane: a picture in OpenSeadragon, the layers on it, the canvas over it, its scale bar.

import { ends, make, short, toast } from "./dom.js";

const TILE_PX = 256;
const CHIPS_PX = 46; // height of the chips at the bottom
const { OpenSeadragon } = window;
const topLevel = ([width, height]) => Math.ceil(Math.log2(Math.max(width, height)));

export class Pane {
  constructor(parent, number, draw) {
    this.picture = make("div", { className: "picture" });
    this.canvas = make("canvas", { className: "drawn" });
    this.heading = make("div", { className: "chip heading", hidden: true });
    this.hint = make("div", { className: "chip hint", hidden: true });
    this.place = make("div", { className: "chip place" });
    this.ruler = make("div", { className: "chip ruler" }, make("span"), make("i"));
    this.strip = make("canvas", { width: 256, height: 1 });
    this.low = make("span");
    this.high = make("span");
    this.unit = make("div", { className: "unit" });
    this.bar = make("div", { className: "chip bar", hidden: true }, this.unit, this.strip,
      make("div", { className: "ends" }, this.low, this.high));
    this.element = make("div", { className: "pane", id: `pane-${number}`, hidden: number > 0 },
      this.picture, this.heading, this.hint, this.place, this.ruler, this.bar);
    parent.append(this.element);
    this.draw = draw;
    this.layers = {};
    this.entry = null;
    this.viewer = OpenSeadragon({
      element: this.picture,
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: number === 0,
      navigatorSizeRatio: 0.16,
      navigatorAutoFade: false,
      navigatorOpacity: 1,
      navigatorBackground: "#1c2026",
      navigatorBorderColor: "#313842",
      navigatorDisplayRegionColor: "#6cb6ff",
      animationTime: 0.35,
      maxZoomPixelRatio: 16,
      minZoomImageRatio: 0.5,
      visibilityRatio: 0.2,
      zoomPerScroll: 1.3,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      maxImageCacheCount: 800,
      preserveImageSizeOnResize: true,
    });
    this.viewer.canvas.append(this.canvas); // under the navigator
    this.viewer.addHandler("update-viewport", () => this.redraw());
    this.viewer.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; });
    this.viewer.addHandler("tile-load-failed", (event) => this.complain(event.tile.getUrl()));
    this.picture.addEventListener("pointermove", (event) => this.point(event));
  }

  // Show an entry of the list; the promise resolves when the picture can be moved.
  show(number, entry) {
    this.entry = entry;
    this.layers = {};
    const [width, height] = entry.size_px;
    return new Promise((done) => {
      this.viewer.addOnceHandler("open", done);
      this.viewer.open({
        width,
        height,
        tileSize: TILE_PX,
        minLevel: 0,
        maxLevel: topLevel(entry.size_px),
        getTileUrl: (level, x, y) => `/api/entries/${number}/${level}/${x}_${y}.jpg`,
      });
    });
  }

  // Show once per entry why a part of it is missing.
  async complain(url) {
    if (this.failed === this.entry) return;
    this.failed = this.entry;
    const answer = await fetch(url);
    if (!answer.ok) toast(await answer.text());
  }

  // Add, change or remove a layer. key: content of the layer; null removes it.
  layer(name, key, opacity, options) {
    const held = this.layers[name];
    if (held && held.key === key) {
      held.opacity = opacity;
      held.image?.setOpacity(opacity);
      return;
    }
    const old = held?.image ?? held?.old;
    if (key === null) {
      if (old) this.viewer.world.removeItem(old);
      delete this.layers[name];
      return;
    }
    const fresh = { key, opacity, image: null, old };
    this.layers[name] = fresh;
    this.viewer.addTiledImage({
      ...options,
      opacity,
      success: ({ item }) => {
        if (this.layers[name] !== fresh) { // another layer was requested in between
          this.viewer.world.removeItem(item);
          return;
        }
        fresh.image = item;
        item.setOpacity(fresh.opacity);
        // The previous layer stays visible until this one is loaded.
        const leave = () => { if (fresh.old) this.viewer.world.removeItem(fresh.old); fresh.old = null; };
        if (item.getFullyLoaded()) leave(); else item.addOnceHandler("fully-loaded-change", leave);
      },
      error: () => { delete this.layers[name]; },
    });
  }

  showTissue(number, shown) {
    this.layer("tissue", shown ? `tissue ${number}` : null, 1, {
      tileSource: { type: "image", url: `/api/entries/${number}/tissue.png`, buildPyramid: false },
      width: 1,
    });
  }

  // Show a channel of a map; null shows none.
  showMap(number, map, channel, colours, [low, high], opacity) {
    if (map === null) {
      this.layer("map", null);
      return;
    }
    const query = new URLSearchParams({ colours, from: low, to: high });
    const top = topLevel(map.size_px);
    this.layer("map", `${number} ${channel} ${query}`, opacity / 100, {
      tileSource: {
        width: map.size_px[0],
        height: map.size_px[1],
        tileSize: TILE_PX,
        minLevel: top - map.levels + 1,
        maxLevel: top,
        getTileUrl: (level, x, y) => `/api/maps/${number}/${channel}/${level}/${x}_${y}.png?${query}`,
      },
      x: map.offset_px[0] / this.entry.size_px[0], // both in widths of the picture
      y: map.offset_px[1] / this.entry.size_px[0],
      width: (map.size_px[0] * map.token_px) / this.entry.size_px[0],
    });
  }

  // Position of the picture's corner in the pane, and the size of its pixel.
  placed() {
    const { viewport } = this.viewer;
    const corner = viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true);
    const end = viewport.pixelFromPoint(new OpenSeadragon.Point(1, 0), true);
    return { x: corner.x, y: corner.y, scale: (end.x - corner.x) / this.entry.size_px[0] };
  }

  inSight() {
    const { x, y, scale } = this.placed();
    const [right, bottom] = [(this.element.clientWidth - x) / scale, (this.element.clientHeight - y) / scale];
    return { left: -x / scale, top: -y / scale, right, bottom };
  }

  where(event) {
    const { x, y, scale } = this.placed();
    return [(event.x - x) / scale, (event.y - y) / scale];
  }

  // Centre in pixels of the picture, and µm per screen pixel.
  look() {
    const { left, top, right, bottom } = this.inSight();
    return { x: (left + right) / 2, y: (top + bottom) / 2, mpp: this.entry.mpp / this.placed().scale };
  }

  go({ x, y, mpp }, immediately = true) {
    const [width] = this.entry.size_px;
    const { viewport } = this.viewer;
    viewport.zoomTo(((this.entry.mpp / mpp) * width) / this.element.clientWidth, null, immediately);
    viewport.panTo(new OpenSeadragon.Point(x / width, y / width), immediately);
  }

  // Fit the picture above the chips at the bottom.
  fit(immediately = false) {
    const { viewport } = this.viewer;
    const [width, height] = this.entry.size_px;
    const share = 1 - CHIPS_PX / this.element.clientHeight;
    viewport.fitBounds(new OpenSeadragon.Rect(0, 0, 1, height / width / share), immediately);
  }

  follow(other) {
    this.viewer.viewport.zoomTo(other.viewer.viewport.getZoom(true), null, true);
    this.viewer.viewport.panTo(other.viewer.viewport.getCenter(true), true);
  }

  redraw() {
    if (!this.entry || !this.viewer.world.getItemCount() || this.element.hidden) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.element.clientWidth, this.element.clientHeight];
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.say(this.hint, this.draw(this, context));
    this.measure();
    this.hideOverview();
  }

  say(chip, text) {
    chip.textContent = text;
    chip.hidden = !text;
  }

  measure() {
    const mpp = this.entry.mpp / this.placed().scale;
    const most = 130 * mpp;
    const unit = 10 ** Math.floor(Math.log10(most));
    const length = unit * [5, 2, 1].find((n) => n * unit <= most);
    this.ruler.firstChild.textContent = length >= 1000 ? `${length / 1000} mm` : `${short(length)} µm`;
    this.ruler.lastChild.style.width = `${length / mpp}px`;
    this.element.dataset.mpp = mpp;
    this.tell();
  }

  // The overview hides a corner of the picture, and tells nothing while all of the picture is in sight.
  hideOverview() {
    const [{ left, top, right, bottom }, [width, height]] = [this.inSight(), this.entry.size_px];
    const whole = left <= 0 && top <= 0 && right >= width && bottom >= height;
    if (this.viewer.navigator) this.viewer.navigator.element.style.visibility = whole ? "hidden" : "visible";
  }

  point(event) {
    if (!this.entry || !this.viewer.world.getItemCount()) return;
    const box = this.element.getBoundingClientRect();
    this.under = this.where({ x: event.clientX - box.left, y: event.clientY - box.top }).map(Math.floor);
    this.tell();
  }

  tell() {
    const at = this.under ? `${this.under[0]}, ${this.under[1]} px · ` : "";
    this.place.textContent = `${at}${short(Number(this.element.dataset.mpp))} µm per screen pixel`;
  }

  // The colour bar; null removes it.
  legend(palette, span = [0, 1], unit = "") {
    this.bar.hidden = palette === null;
    if (palette === null) return;
    const context = this.strip.getContext("2d");
    palette.forEach((colour, i) => { context.fillStyle = colour; context.fillRect(i, 0, 1, 1); });
    const same = span[0] === span[1]; // one value everywhere: a scale with two ends would mislead
    [this.low.textContent, this.high.textContent] = same ? [`${short(span[0])} everywhere`, ""] : ends(span);
    this.unit.textContent = unit;
  }
}
