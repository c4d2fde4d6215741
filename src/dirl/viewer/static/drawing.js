// Drawing over a pane: the tile grid, measures of tiles, nuclei.

import { get, toast } from "./dom.js";

const NO_CLASS = "#ffe600";
const CLASSES = ["#56b4e9", "#e69f00", "#2fd6a3", "#f0e442", "#ff7b39", "#e58ac0", "#4d8dff", "#ffffff"];
const MOST_TILES = 220; // largest number of tiles with nuclei; with more, nuclei are too small to see
const LEAST_SIDE = 36; // smallest side of a tile with nuclei, in screen pixels
const FINE_SIDE = 200; // below this side outlines are thin and have no rim

export const classColour = (number) => (number < 0 ? NO_CLASS : CLASSES[number % CLASSES.length]);

// Tiles of an entry that are at least partly in a box of the picture.
export function tilesIn(entry, box) {
  const found = [];
  for (let i = 0; i < entry.x.length; i += 1) {
    if (entry.x[i] < box.right && entry.y[i] < box.bottom
      && entry.x[i] + entry.side_px > box.left && entry.y[i] + entry.side_px > box.top) found.push(i);
  }
  return found;
}

// The tile under a point; if several overlap, the one with the nearest centre.
export function tileAt(entry, x, y) {
  const half = entry.side_px / 2;
  const distance = (i) => Math.max(Math.abs(entry.x[i] + half - x), Math.abs(entry.y[i] + half - y));
  const under = tilesIn(entry, { left: x, right: x, top: y, bottom: y });
  return under.reduce((best, i) => (best === null || distance(i) < distance(best) ? i : best), null);
}

// place: {x, y, scale}, the position of the picture's corner on the canvas, and the size of its pixel.
export function drawGrid(context, entry, tiles, place) {
  context.strokeStyle = "rgba(20, 60, 200, .75)";
  context.lineWidth = 1;
  context.beginPath();
  const side = entry.side_px * place.scale;
  for (const i of tiles) {
    context.rect(place.x + entry.x[i] * place.scale, place.y + entry.y[i] * place.scale, side, side);
  }
  context.stroke();
}

export function drawChosen(context, entry, i, place) {
  const side = entry.side_px * place.scale;
  const [x, y] = [place.x + entry.x[i] * place.scale, place.y + entry.y[i] * place.scale];
  for (const [colour, width] of [["rgba(0, 0, 0, .6)", 5], ["#6cb6ff", 2.5]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.strokeRect(x, y, side, side);
  }
}

export function drawMeasure(context, entry, tiles, place, values, palette, [low, high], opacity) {
  const side = entry.side_px * place.scale;
  context.globalAlpha = opacity / 100;
  for (const i of tiles) {
    if (values[i] === null) continue;
    const share = Math.min(1, Math.max(0, (values[i] - low) / (high - low || 1)));
    context.fillStyle = palette[Math.round(255 * share)];
    context.fillRect(place.x + entry.x[i] * place.scale, place.y + entry.y[i] * place.scale, side, side);
  }
  context.globalAlpha = 1;
}

// Outlines of nuclei, loaded for each tile when it becomes visible.
export class Nuclei {
  constructor(redraw) {
    this.redraw = redraw;
    this.held = new Map();
  }

  // Draw the nuclei of the tiles; returns a hint for the reader, or "".
  draw(context, number, entry, cells, tiles, place) {
    if (tiles.length > MOST_TILES || entry.side_px * place.scale < LEAST_SIDE) return "Zoom in to see nuclei";
    const scale = (entry.side_px * place.scale) / entry.tile_px / 10;
    const rim = ["rgba(0, 0, 0, .45)", 3];
    const pens = (colour) => (entry.side_px * place.scale < FINE_SIDE ? [[colour, 1]] : [rim, [colour, 1.5]]);
    let waiting = 0;
    for (const i of tiles) {
      const paths = this.paths(number, cells, entry.numbers[i]);
      if (paths === null) waiting += 1;
      for (const [kind, path] of paths ?? []) {
        context.save();
        context.translate(place.x + entry.x[i] * place.scale, place.y + entry.y[i] * place.scale);
        context.scale(scale, scale);
        for (const [colour, width] of pens(classColour(kind))) {
          context.strokeStyle = colour;
          context.lineWidth = width / scale;
          context.stroke(path);
        }
        context.restore();
      }
    }
    return waiting ? "Loading nuclei…" : "";
  }

  // Paths of a tile by class; null while they are loading.
  paths(number, cells, tile) {
    const key = `${number}/nuclei/${cells}/${tile}`;
    if (!this.held.has(key)) {
      this.held.set(key, null);
      get(`/api/entries/${key}`)
        .then((nuclei) => this.held.set(key, toPaths(nuclei)))
        .catch(() => this.held.set(key, new Map()))
        .finally(this.redraw);
      if (this.held.size > 4000) this.held.delete(this.held.keys().next().value);
    }
    return this.held.get(key);
  }
}

// Outlines of the top regions, loaded once for each map.
export class Regions {
  constructor(redraw) {
    this.redraw = redraw;
    this.held = new Map();
  }

  draw(context, map, place) {
    if (!this.held.has(map)) {
      this.held.set(map, new Path2D());
      get(`/api/maps/${map}/regions`)
        .then((regions) => this.held.set(map, toPath(regions.flat())))
        .catch((error) => toast(error.message))
        .finally(this.redraw);
    }
    context.save();
    context.translate(place.x, place.y);
    context.scale(place.scale, place.scale);
    for (const [colour, width] of [["rgba(0, 0, 0, .7)", 4], ["#ffffff", 1.8]]) {
      context.strokeStyle = colour;
      context.lineWidth = width / place.scale;
      context.stroke(this.held.get(map));
    }
    context.restore();
  }
}

function toPath(rings) {
  const path = new Path2D();
  for (const [start, ...rest] of rings) {
    path.moveTo(...start);
    for (const point of rest) path.lineTo(...point);
  }
  return path;
}

function toPaths(nuclei) {
  const paths = new Map();
  for (const nucleus of nuclei) {
    if (!paths.has(nucleus.class)) paths.set(nucleus.class, new Path2D());
    const path = paths.get(nucleus.class);
    for (const line of nucleus.lines) {
      path.moveTo(line[0], line[1]);
      for (let i = 2; i < line.length; i += 2) path.lineTo(line[i], line[i + 1]);
    }
  }
  return paths;
}
