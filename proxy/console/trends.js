// The three charts: how much spills, what a million tokens cost beside the break-even line, latency beside objectives.

import { Chart } from "./charts.js";
import { clipped } from "./dom.js";
import { breakEven, ofLane, ruleName } from "./figures.js";
import * as write from "./format.js";
import { History } from "./history.js";

const SPAN_S = 300;
const LEAST_SPAN_S = 60;
const POINTS = SPAN_S + 60;
const MOST_LIMITS = 3;
const ALL = "";

export class Trends {
  #history = new History(POINTS);
  #spill;
  #price;
  #latency;
  #view = null;

  constructor(parent) {
    const top = (least) => (most) => Math.max(least, most * 1.15);
    this.#spill = new Chart(parent, {
      id: "spill",
      title: "Spill share",
      format: write.percent,
      range: (most) => Math.min(1, Math.max(0.1, most * 1.15)),
    });
    this.#price = new Chart(parent, {
      id: "price",
      title: "Cost against break-even, $/M tokens",
      format: write.usd,
      range: priceTop,
    });
    this.#latency = new Chart(parent, {
      id: "latency",
      title: "Latency against objectives",
      format: write.seconds,
      range: top(0.01),
    });
    for (const chart of [this.#spill, this.#price, this.#latency])
      chart.select.addEventListener("change", () => this.#draw());
  }

  /** Note what this view says, and draw. */
  update(view) {
    this.#view = view;
    const figures = new Map();
    const own = ofLane(view, "dedicated");
    for (const target of own) note(figures, target.name, breakEven([target]));
    for (const [key, one] of objectives(view)) figures.set(`observed ${key}`, one.observed_s);
    this.#history.note(view.as_of, figures);
    this.#price.offer([[ALL, "All dedicated"], ...own.map((target) => [target.name, clipped(target.name, 40)])]);
    this.#latency.offer([
      [ALL, "All requests"],
      ...objectives(view).map(([key, one, route]) => [key, clipped(`${route}: ${ruleName(one.rule)}`, 40)]),
    ]);
    this.#draw();
  }

  #draw() {
    if (this.#view === null || document.hidden) return;
    this.#drawSpill();
    this.#drawPrice();
    this.#drawLatency();
  }

  #drawSpill() {
    const { history } = this.#view;
    const series = [{ id: "spilled", label: "spilled", colour: "--rent", dash: "solid", fill: "--rent-soft" }];
    this.#show(this.#spill, series, [history.at, history.spill_share]);
  }

  #drawPrice() {
    const of = this.#price.select.value;
    const series = [
      { id: "own", label: "your GPUs", colour: "--own", dash: "solid" },
      { id: "shared", label: "break-even: shared price", colour: "--rent", dash: "dash" },
    ];
    const { history } = this.#view;
    const dollars = (column) => column.map((value) => (value === null ? null : value / 1e9));
    const all = () => [
      history.at,
      dollars(history.dedicated_nano_usd_per_mtok),
      dollars(history.break_even_nano_usd_per_mtok),
    ];
    this.#show(this.#price, series, of === ALL ? all() : this.#history.columns([`own ${of}`, `shared ${of}`], POINTS));
  }

  #drawLatency() {
    const of = this.#latency.select.value;
    if (of === ALL) this.#drawAllLatency();
    else this.#drawObjective(of);
  }

  #drawAllLatency() {
    const { history } = this.#view;
    const limits = ttftLimits(this.#view);
    const series = [
      { id: "p99", label: "TTFT p99", colour: "--own", dash: "solid" },
      { id: "p50", label: "p50", colour: "--quiet", dash: "dot" },
      ...limits.map(([limit, routes]) => limitLine(limit, routes)),
    ];
    const flat = limits.map(([limit]) => history.at.map(() => limit));
    this.#show(this.#latency, series, [history.at, history.ttft_p99_s, history.ttft_p50_s, ...flat]);
  }

  #drawObjective(of) {
    const found = objectives(this.#view).find(([key]) => key === of);
    const [times, observed] = this.#history.columns([`observed ${of}`], POINTS);
    const limit = found?.[1].limit_s ?? null;
    const series = [
      { id: of, label: found ? ruleName(found[1].rule) : of, colour: "--own", dash: "solid" },
      limitLine(limit, []),
    ];
    this.#show(this.#latency, series, [times, observed, times.map(() => limit)]);
  }

  /** All charts show the same span: five minutes, or as long as this proxy has been running. */
  #show(chart, series, data) {
    const { history, as_of } = this.#view;
    const since = Math.min(history.at[0] ?? as_of, as_of - LEAST_SPAN_S);
    chart.draw(series, data, Math.max(since, as_of - SPAN_S), as_of);
  }
}

const limitLine = (limit, routes) => ({
  id: `limit ${limit} ${routes.join(" ")}`,
  label: routes.length ? `${clipped(routes.join(", "), 30)} wants` : "objective",
  colour: "--bad",
  dash: "dash",
});

function note(figures, name, { own, shared }) {
  figures.set(`own ${name}`, own === null ? null : own / 1e9);
  figures.set(`shared ${name}`, shared === null ? null : shared / 1e9);
}

/** Each objective as `[key, objective, route's name]`. */
const objectives = (view) =>
  view.routes.flatMap(({ name, objectives: all }) => all.map((one) => [`${name} ${one.rule}`, one, name]));

/** The TTFT p99 objectives, tightest first, each with the routes that have it. */
function ttftLimits(view) {
  const by = new Map();
  for (const [, one, route] of objectives(view)) {
    if (one.rule === "ttft_p99") by.set(one.limit_s, [...(by.get(one.limit_s) ?? []), route]);
  }
  return [...by].sort((one, other) => one[0] - other[0]).slice(0, MOST_LIMITS);
}

/** Idle GPUs make a token cost anything: what is far above the break-even line is above the chart too. */
function priceTop(most, data) {
  const even = Math.max(0, ...(data[2] ?? []).filter((value) => value !== null));
  return even ? Math.max(even * 1.4, Math.min(most * 1.1, even * 4)) : Math.max(0.01, most * 1.15);
}
