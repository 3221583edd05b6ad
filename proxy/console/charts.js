// One chart: uPlot draws it, and a caption, a key with the latest figures and a table say the same in words.

import { el, mark, write } from "./dom.js";
import { NOTHING, clock, duration } from "./format.js";

const HEIGHT = 150;
const TABLE_ROWS = 12;
const DASHES = { solid: [], dash: [7, 4], dot: [2, 3] };

const colours = new Map();
document.documentElement.addEventListener("themechange", () => colours.clear());

/** A colour of the style sheet, by its name. */
function colour(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return colours.get(name);
}

/**
 * `format` writes a value; `range(most, data)` says where the scale ends. A series is `{id, label, colour, dash, fill}`:
 * what it is known by from one drawing to the next, its name, then names of the style sheet's tokens and of a dash.
 * `select` is for the reader to choose what is drawn.
 */
export class Chart {
  #plot = null;
  #series = [];
  #keys;
  #title;
  #body;
  #head = el("tr");
  #rows = el("tbody");
  #options;
  #data = [[]];
  #span = [0, 1];

  constructor(parent, options) {
    this.#options = options;
    const id = `chart-${options.id}`;
    this.#title = el("h3", { id, text: options.title });
    this.select = el("select", {
      id: `${id}-of`,
      class: "small",
      "aria-label": `${options.title}: of what`,
      hidden: true,
    });
    this.#keys = el("ul", { class: "keys" });
    this.#body = el("div", { class: "plot", role: "img" });
    this.details = el("details", {}, el("summary", { text: "As a table" }), this.#tableNode());
    parent.append(
      el(
        "figure",
        { class: "chart" },
        el("div", { class: "chart-head" }, this.#title, this.select),
        this.#keys,
        this.#body,
        this.details,
      ),
    );
    this.details.addEventListener("toggle", () => this.#tabulate());
    new ResizeObserver(() => this.#resize()).observe(this.#body);
    document.documentElement.addEventListener("themechange", () => this.#plot?.redraw(false));
  }

  /** What can be chosen, as `[value, label]`; the choice of before stays, if it still can be. */
  offer(choices) {
    const shown = [...this.select.options].map((one) => `${one.value}\n${one.text}`).join("\n");
    if (shown === choices.map(([value, label]) => `${value}\n${label}`).join("\n")) return;
    const chosen = this.select.value;
    this.select.replaceChildren(...choices.map(([value, label]) => el("option", { value, text: label })));
    if (choices.some(([value]) => value === chosen)) this.select.value = chosen;
    this.select.hidden = choices.length < 2;
  }

  /** Draw these series between two times: columns of time (Unix, seconds) and of values, as long as each other. */
  draw(series, data, from, to) {
    const same = series.length === this.#series.length && series.every((one, at) => one.id === this.#series[at].id);
    this.#data = data;
    if (!same || !this.#plot) this.#rebuild(series);
    this.#series = series;
    this.#span = [from, to];
    this.#plot.setData(data);
    this.#describe(this.#plot.cursor.idx ?? null);
    if (this.details.open) this.#tabulate();
  }

  #rebuild(series) {
    this.#plot?.destroy();
    const format = this.#options.format;
    const axis = {
      stroke: () => colour("--quiet"),
      grid: { stroke: () => colour("--grid"), width: 1 },
      ticks: { show: false },
      font: `11px ${getComputedStyle(document.body).fontFamily}`,
    };
    const line = (one) => ({
      label: one.label,
      stroke: () => colour(one.colour),
      width: one.dash === "solid" ? 2 : 1.75,
      dash: DASHES[one.dash],
      fill: one.fill && (() => colour(one.fill)),
      points: { show: false },
      spanGaps: false,
    });
    this.#plot = new uPlot(
      {
        width: Math.max(120, this.#body.clientWidth),
        height: HEIGHT,
        legend: { show: false },
        padding: [8, 16, 0, 0],
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 }, sync: { key: "console" } },
        scales: {
          x: { range: () => this.#span },
          y: { range: (_, least, most) => [0, this.#options.range(Number.isFinite(most) ? most : 0, this.#data)] },
        },
        axes: [
          { ...axis, space: () => (this.#isShort ? 70 : 46), size: 24, values: (_, at) => at.map((one) => this.#tick(one)) },
          { ...axis, size: 52, space: 28, values: (_, at) => at.map((one) => format(one)) },
        ],
        series: [{}, ...series.map(line)],
        hooks: { setCursor: [(plot) => this.#describe(plot.cursor.idx)] },
      },
      [[], ...series.map(() => [])],
      this.#body,
    );
    mark(this.#plot.root, "aria-hidden", "true");
    this.#keys.replaceChildren(...series.map((one) => this.#key(one)));
  }

  /** The time on the axis, with its seconds where a minute would stand there twice. */
  #tick(at) {
    return this.#isShort ? clock(at) : clock(at).slice(0, 5);
  }

  get #isShort() {
    return this.#span[1] - this.#span[0] < 240;
  }

  #key(one) {
    const line = el("span", { class: "key-line", "data-dash": one.dash, "aria-hidden": "true" });
    line.style.setProperty("--stroke", `var(${one.colour})`);
    return el("li", {}, line, el("bdi", { text: one.label }), el("b"));
  }

  /** The key says the figures under the pointer, or the latest; the plot's label says the same to those who listen. */
  #describe(at = null) {
    const items = this.#keys.children;
    const said = this.#series.map((one, index) => {
      const column = this.#data[index + 1];
      const value = at === null ? latest(column) : column[at];
      if (items[index]) write(items[index].lastChild, this.#options.format(value) || NOTHING);
      return `${one.label} ${this.#options.format(value)}`;
    });
    if (at === null)
      mark(
        this.#body,
        "aria-label",
        `${this.#options.title}, last ${duration(this.#span[1] - this.#span[0])}; now: ${said.join(", ")}`,
      );
  }

  #tableNode() {
    const caption = el("caption", { class: "sr", text: this.#options.title });
    return el("table", {}, caption, el("thead", {}, this.#head), this.#rows);
  }

  #tabulate() {
    const [times, ...columns] = this.#data;
    const step = Math.max(1, Math.ceil(times.length / TABLE_ROWS));
    const rows = [];
    for (let at = times.length - 1; at >= 0 && rows.length < TABLE_ROWS; at -= step) {
      const cells = columns.map((column) => el("td", { text: this.#options.format(column[at]) }));
      rows.push(el("tr", {}, el("th", { scope: "row", text: clock(times[at]) }), ...cells));
    }
    this.#head.replaceChildren(
      el("th", { scope: "col", text: "at" }),
      ...this.#series.map((one) => el("th", { scope: "col", text: one.label })),
    );
    this.#rows.replaceChildren(...rows);
  }

  #resize() {
    const width = this.#body.clientWidth;
    if (this.#plot && width && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
  }
}

/** The last value that is known, of the last few. */
function latest(column) {
  for (let at = column.length - 1; at >= Math.max(0, column.length - 5); at--)
    if (column[at] !== null) return column[at];
  return null;
}
