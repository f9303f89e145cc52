// A line chart of SVG: several series over one time axis, a legend with the values under the pointer.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 640, HEIGHT = 190, LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 22;
const MOST_POINTS = 500;

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

// The smallest of 1, 2, 5 times a power of ten that gives at most five lines.
function niceStep(most) {
  const power = 10 ** Math.floor(Math.log10(most / 5));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => most / step <= 5) ?? 10 * power;
}

function clockTime(seconds) {
  return new Date(seconds * 1000).toTimeString().slice(0, 8);
}

function shown(value) {
  if (value === null || value === undefined) return "–";
  return Number.isInteger(value) ? String(value) : value.toFixed(value < 10 ? 2 : 1);
}

class Chart {
  constructor(parent, { title, about, unit }) {
    this.unit = unit;
    const figure = document.createElement("figure");
    figure.innerHTML = "<h2></h2><p></p><ul class=legend></ul>";
    figure.querySelector("h2").textContent = title;
    figure.querySelector("p").textContent = about;
    this.legend = figure.querySelector("ul");
    this.svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, figure);
    this.svg.setAttribute("aria-label", title);
    parent.append(figure);
    this.series = [];
    this.span = [0, 1];
    this.svg.addEventListener("pointermove", (event) => this.onPoint?.(this.timeAt(event)));
    this.svg.addEventListener("pointerleave", () => this.onPoint?.(null));
  }

  timeAt(event) {
    const box = this.svg.getBoundingClientRect();
    const [from, to] = this.span;
    const inner = (this.width - LEFT - RIGHT) / this.width;
    return from + ((event.clientX - box.left) / box.width - LEFT / this.width) / inner * (to - from);
  }

  // series: [{name, hue, points: [[t, value]], dots}]; points in the order of time.
  draw(series, [from, to]) {
    this.width = this.svg.clientWidth || WIDTH;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.series = series;
    this.span = [from, to];
    this.svg.replaceChildren();
    const values = series.flatMap((one) => one.points.map((point) => point[1])).filter((value) => value !== null);
    const step = niceStep(Math.max(0, ...values) || 1);
    const top = values.length ? Math.max(step, Math.ceil(Math.max(...values) / step) * step) : 1;
    this.x = (t) => LEFT + (t - from) / (to - from) * (this.width - LEFT - RIGHT);
    this.y = (value) => HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
    if (values.length) this.lines(step, top);
    this.times(from, to);
    for (const one of series) (one.dots ? this.dots : this.line).call(this, one);
    if (!values.length) {
      element("text", { x: this.width / 2, y: HEIGHT / 2, class: "nothing" }, this.svg).textContent = "nothing yet";
    }
    this.point(null);
  }

  lines(step, top) {
    for (let value = 0; value <= top + step / 2; value += step) {
      const y = this.y(value);
      element("line", { x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y, class: value ? "gridline" : "axis" }, this.svg);
      const label = element("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, this.svg);
      label.textContent = Number(value.toPrecision(3));
    }
  }

  times(from, to) {
    const count = Math.max(2, Math.floor(this.width / 130));
    for (let number = 0; number <= count; number++) {
      const t = from + (to - from) * number / count;
      const anchor = number === 0 ? "start" : number === count ? "end" : "middle";
      element("text", { x: this.x(t), y: HEIGHT - 5, "text-anchor": anchor }, this.svg).textContent = clockTime(t);
    }
  }

  line({ hue, points }) {
    const every = Math.max(1, Math.ceil(points.length / MOST_POINTS));
    let path = "", pen = "M";
    points.forEach(([t, value], number) => {
      if (number % every && number !== points.length - 1) return;
      if (value === null) { pen = "M"; return; }        // not seen: a gap, and no line across it
      path += `${pen}${this.x(t).toFixed(1)} ${this.y(value).toFixed(1)}`;
      pen = "L";
    });
    element("path", { d: path || "M0 0", class: "series", style: `--hue: var(--${hue})` }, this.svg);
  }

  dots({ hue, points }) {
    for (const [t, value] of points) {
      element("circle", { cx: this.x(t), cy: this.y(value), r: 3, class: "dot", style: `--hue: var(--${hue})` }, this.svg);
    }
  }

  // Show the values at a moment, the last ones where it is null.
  point(t) {
    this.cursor?.remove();
    this.cursor = null;
    if (t !== null && t >= this.span[0] && t <= this.span[1]) {
      const x = this.x(t);
      this.cursor = element("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor" }, this.svg);
    }
    this.legend.replaceChildren(...this.series.map((one) => {
      const item = document.createElement("li");
      const sign = document.createElement("i");
      sign.style.setProperty("--hue", `var(--${one.hue})`);
      const at = t === null ? one.points.at(-1) : one.points.findLast((point) => point[0] <= t);
      item.append(sign, `${one.name}: ${shown(at?.[1])}${at && at[1] !== null ? this.unit : ""}`);
      return item;
    }));
  }
}
