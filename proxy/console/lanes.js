// The targets of a lane as a table, each with its replicas below it when it is opened.

import { Keyed, el, mark, setVariable, show, write, writeName } from "./dom.js";
import { ofLane, ruleName, stateOf, loosest } from "./figures.js";
import * as format from "./format.js";

const MOST_PIPS = 16;
let opened = 0; // numbers what a button controls

/** The table, after its head. */
export class Lane {
  #lane;
  #rows;
  #empty;

  constructor(table, empty, lane) {
    this.#lane = lane;
    this.#empty = empty;
    this.#rows = new Keyed(table, () => new TargetRows(lane));
  }

  update(view) {
    const targets = ofLane(view, this.#lane);
    this.#rows.update(
      targets.map((target) => ({ target, view })),
      ({ target }) => target.name,
    );
    show(this.#empty, !targets.length);
  }
}

/** One target: a row of its own, and one for its replicas. */
class TargetRows {
  #cells;
  #name = el("bdi", { class: "target-name" });
  #about = el("span", { class: "sub" });
  #pods = el("span", { class: "sub pods" });
  #twist;
  #inner;
  #replicas;
  #target = null;

  constructor(lane) {
    const id = `replicas-${++opened}`;
    this.#cells = (lane === "dedicated" ? dedicatedCells : sharedCells)();
    this.#twist = el(
      "button",
      { type: "button", class: "twist", "aria-expanded": "false", "aria-controls": id },
      this.#name,
    );
    this.#replicas = new Replicas(lane);
    this.#inner = el(
      "tr",
      { class: "inner", id, role: "row", hidden: true },
      el("td", { role: "cell", colspan: this.#cells.length + 1 }, this.#replicas.node),
    );
    const head = el("th", { scope: "row", role: "rowheader" }, this.#twist, this.#about, this.#pods);
    this.node = el(
      "tbody",
      { role: "rowgroup" },
      el("tr", { class: "row", role: "row" }, head, ...this.#cells.map((cell) => cell.node)),
      this.#inner,
    );
    this.#twist.addEventListener("click", () => this.#toggle());
  }

  update({ target, view }) {
    this.#target = target;
    writeName(this.#name, target.name);
    write(
      this.#about,
      [target.region, target.gpus || target.runs_on]
        .filter((word) => word && word !== "unknown")
        .join(" · ")
        .slice(0, 60),
    );
    write(this.#pods, podWords(target));
    mark(this.#pods, "data-is", target.found && (target.found.trouble || !target.found.up) ? "bad" : null);
    for (const cell of this.#cells) cell.update(target, view);
    if (!this.#inner.hidden) this.#replicas.update(target);
  }

  #toggle() {
    show(this.#inner, this.#inner.hidden);
    mark(this.#twist, "aria-expanded", String(!this.#inner.hidden));
    if (!this.#inner.hidden) this.#replicas.update(this.#target);
  }
}

const dedicatedCells = () => [stateCell(), pipsCell(), loadCell("dedicated"), latencyCell(), ownPriceCell()];
const sharedCells = () => [stateCell(), loadCell("shared"), latencyCell(), rateCell(), rentPriceCell()];

function cell(label, className, content, update) {
  return { node: el("td", { role: "cell", class: className, "data-label": label }, ...content), update };
}

function stateCell() {
  const sign = el("span", { class: "sign" });
  return cell("State", "nowrap state", [sign], (target) => {
    const { is, word } = stateOf(target);
    mark(sign, "data-is", is);
    write(sign, word);
    mark(sign, "title", target.quota || null);
  });
}

function pipsCell() {
  const pips = el("span", { class: "pips", "aria-hidden": "true" });
  const figure = el("span", { class: "nowrap" });
  const many = new Keyed(pips, () => pip());
  return cell("Replicas", "num", [pips, figure], (target) => {
    many.update(target.replicas.slice(0, MOST_PIPS), (replica) => replica.replica);
    write(figure, ` ${target.replicas_serving}/${target.replicas.length}`);
  });
}

/** What is wrong with the pods that were found, or with whoever lists them. */
function podWords({ found }) {
  if (!found) return "";
  const { up, unready, terminating, trouble } = found;
  const counted = [unready && `${unready} not ready`, terminating && `${terminating} leaving`].filter(Boolean);
  const silent = !up && !trouble && "whoever lists its pods has not answered yet";
  return [counted.join(", "), trouble, silent].filter(Boolean).join("; ").slice(0, 200);
}

function pip() {
  const fill = el("i");
  const node = el("span", { class: "pip" }, fill);
  return {
    node,
    update: (replica) => {
      mark(node, "data-is", replica.breaker);
      setVariable(fill, "--fill", Math.min(1, replica.saturation ?? 0).toFixed(2));
    },
  };
}

function loadCell(lane) {
  const fill = el("span", { class: "fill" });
  const figure = el("span", { class: "figure" });
  const sub = el("span", { class: "sub" });
  const meter = el(
    "span",
    { class: "meter", "data-lane": lane },
    el("span", { class: "track", "aria-hidden": "true" }, fill),
    figure,
  );
  return cell("In flight", "num load", [meter, sub], (target) => {
    const { saturation } = target;
    show(meter.firstChild, saturation !== null);
    setVariable(fill, "--fill", Math.min(1, saturation ?? 0).toFixed(3));
    mark(meter, "data-full", saturation !== null && saturation >= 1);
    write(figure, format.count(target.in_flight));
    write(sub, loadWords(target));
  });
}

function loadWords({ saturation, waiting, requests_per_s_here: rate }) {
  if (saturation === null) return `${format.rate(rate)}/s`;
  return waiting
    ? `${format.percent(saturation)} used, ${format.count(waiting)} wait`
    : `${format.percent(saturation)} used`;
}

function latencyCell() {
  const median = el("span");
  const tail = el("span");
  const gap = el("span");
  const sub = el("span", { class: "sub" }, "ITL p99 ", gap);
  return cell("TTFT p50, p99", "num", [median, tail, sub], ({ latency_here: { ttft, itl } }, view) => {
    write(median, ttft.p50_s === null ? "" : `${format.seconds(ttft.p50_s)}, `);
    judged(tail, ttft.p99_s, loosest(view, "ttft_p99"), "ttft_p99");
    judged(gap, itl.p99_s, loosest(view, "itl_p99"), "itl_p99");
  });
}

/** A percentile, marked where it is above what any route wants of it. */
function judged(node, value, objective, rule) {
  const late = objective !== null && value !== null && value > objective.limit_s;
  write(node, format.seconds(value));
  mark(node, "class", late ? "late" : null);
  const wanted =
    objective && `route ${objective.route} wants ${ruleName(rule)} of ${format.seconds(objective.limit_s)}`;
  mark(node, "title", wanted?.slice(0, 200) ?? null);
}

function ownPriceCell() {
  const price = el("span");
  const sub = el("span", { class: "sub" });
  return cell("$/M tokens", "num", [price, sub], ({ money }) => {
    const [own, shared] = [money?.nano_usd_per_mtok ?? null, money?.shared_nano_usd_per_mtok ?? null];
    write(price, format.nanoUsd(own));
    mark(price, "class", own !== null && shared !== null && own > shared ? "late" : null);
    write(sub, shared === null ? "" : `shared ${format.nanoUsd(shared)}`);
  });
}

function rentPriceCell() {
  const price = el("span");
  const sub = el("span", { class: "sub" });
  return cell("$/M tokens", "num", [price, sub], ({ money }) => {
    write(price, format.nanoUsd(money?.nano_usd_per_mtok));
    write(sub, money?.nano_usd_per_h ? `${format.nanoUsd(money.nano_usd_per_h)}/h` : "");
  });
}

function rateCell() {
  const figure = el("span");
  return cell("Tokens/s", "num", [figure], (target) =>
    write(figure, format.rate(target.input_tokens_per_s_here + target.output_tokens_per_s_here)),
  );
}

const REPLICA_COLUMNS = {
  dedicated: ["replica", "state", "in flight", "used", "queued", "decoding", "KV", "factors"],
  shared: ["endpoint", "state", "in flight", "uptime"],
};

/** The replicas of one target as a table. */
class Replicas {
  #rows;

  constructor(lane) {
    const heads = REPLICA_COLUMNS[lane].map((name) => el("th", { scope: "col", text: name }));
    const body = el("tbody");
    const caption = el("caption", { class: "sr", text: "Replicas" });
    this.node = el("div", { class: "scroll" }, el("table", {}, caption, el("thead", {}, el("tr", {}, ...heads)), body));
    this.#rows = new Keyed(body, () => new ReplicaRow(lane));
  }

  update(target) {
    this.#rows.update(target.replicas, (replica) => replica.replica);
  }
}

class ReplicaRow {
  #lane;
  #host = el("bdi", { class: "mono" });
  #trouble = el("span", { class: "sub" });
  #sign = el("span", { class: "sign" });
  #cells;

  constructor(lane) {
    this.#lane = lane;
    this.#cells = REPLICA_COLUMNS[lane].slice(2).map(() => el("td", { class: "num" }));
    this.node = el(
      "tr",
      {},
      el("th", { scope: "row" }, this.#host, this.#trouble),
      el("td", {}, this.#sign),
      ...this.#cells,
    );
  }

  update(replica) {
    writeName(this.#host, replica.host || `${replica.replica}`);
    write(this.#trouble, replica.trouble);
    const { is, word } = stateOfReplica(replica);
    mark(this.#sign, "data-is", is);
    write(this.#sign, word);
    const figures =
      this.#lane === "dedicated"
        ? dedicatedFigures(replica)
        : [format.count(replica.in_flight), format.percent(replica.uptime_here)];
    for (const [at, text] of figures.entries()) write(this.#cells[at], text);
  }
}

const dedicatedFigures = (replica) => [
  format.count(replica.in_flight),
  replica.saturation === null
    ? format.NOTHING
    : `${format.percent(replica.saturation)} ${replica.saturated_by.replace("_", " ")}`,
  replica.queued_prompt_tokens === null ? format.NOTHING : `${format.count(replica.queued_prompt_tokens)} tokens`,
  format.count(replica.decoding),
  format.percent(replica.kv_use),
  replica.ttft_factor === null
    ? format.NOTHING
    : `${replica.ttft_factor.toFixed(2)}, ${(replica.itl_factor ?? 1).toFixed(2)}`,
];

function stateOfReplica({ breaker, open_for_s, full_for_s, warmth }) {
  if (breaker === "open") return { is: "bad", word: open_for_s ? `open, ${format.duration(open_for_s)}` : "open" };
  if (breaker === "half_open") return { is: "warn", word: "probing" };
  if (full_for_s) return { is: "full", word: "full" };
  return warmth !== null && warmth < 1 ? { is: "none", word: "warming up" } : { is: "good", word: "serves" };
}
