// The last decisions, newest first, each with what was left out and why when it is opened.
//
// Under load the list would run away from its reader: it stands still while somebody points at it, walks through it or
// has opened a decision, and says how many have come since. Its rows stay where they are and say something else: none is
// made or moved for a decision that has come.

import { byId, clipped, el, mark, show, write, writeName } from "./dom.js";
import { kindOf } from "./figures.js";
import * as format from "./format.js";

const MOST_ROWS = 60;
const POINTING_MS = 8000;

const KINDS = {
  preferred: "preferred",
  spilled: "spilled",
  fallback: "failed over",
  hedged: "hedged",
  refused: "refused",
  failed: "failed",
  left: "client left",
};
const FILTERS = {
  all: () => true,
  spilled: (kind) => kind === "spilled" || kind === "fallback",
  trouble: (kind) => kind === "failed" || kind === "refused" || kind === "fallback",
};

export class Decisions {
  #list = byId("decisions");
  #held = byId("held");
  #rows = [];
  #view = null;
  #shown = new Set();
  #pointedAt = -Infinity;
  #current = null;

  constructor() {
    const hold = byId("hold");
    hold.addEventListener("click", () => {
      mark(hold, "aria-pressed", String(!this.#pressed));
      this.#draw();
    });
    byId("filter").addEventListener("change", () => this.#draw(true));
    for (const pointed of ["pointermove", "pointerdown"])
      this.#list.addEventListener(pointed, () => (this.#pointedAt = performance.now()));
    this.#list.addEventListener(
      "pointerleave",
      (event) => event.pointerType === "mouse" && (this.#pointedAt = -Infinity),
    );
    this.#list.addEventListener("keydown", (event) => this.#key(event));
    this.#list.addEventListener("focusin", (event) => this.#stand(event.target.closest(".decision")));
  }

  update(view) {
    this.#view = view;
    this.#draw();
  }

  get #pressed() {
    return byId("hold").getAttribute("aria-pressed") === "true";
  }

  get #holding() {
    if (this.#pressed) return "held";
    if (this.#rows.some((row) => row.opened)) return "held while one is open";
    if (
      this.#list.scrollTop > 8 ||
      this.#list.matches(":focus-within") ||
      performance.now() - this.#pointedAt < POINTING_MS
    )
      return "held while you read";
    return "";
  }

  #draw(anyway = false) {
    if (this.#view === null) return;
    const all = chosen(this.#view, byId("filter").querySelector(":checked").value);
    const holding = this.#holding;
    const newer = all.findIndex((one) => this.#shown.has(keyOf(one)));
    const waiting = newer < 0 ? all.length : newer;
    write(this.#held, holding && `${holding}${waiting ? `, ${waiting}${newer < 0 ? " or more" : ""} newer` : ""}`);
    if (holding && !anyway && this.#shown.size) return;
    const shown = all.slice(0, MOST_ROWS);
    this.#shown = new Set(shown.map(keyOf));
    this.#fill(shown);
    show(byId("decisions-empty"), !shown.length);
    write(
      byId("decisions-empty"),
      this.#view.decisions.length ? "None of this kind lately." : "No request has ended yet.",
    );
  }

  #fill(decisions) {
    while (this.#rows.length < decisions.length) {
      const row = new DecisionRow(() => this.#draw());
      this.#rows.push(row);
      this.#list.append(row.node);
    }
    for (const [at, row] of this.#rows.entries()) row.update(decisions[at] ?? null);
    if (this.#rows.length && (this.#current?.hidden ?? true)) this.#stand(this.#rows[0].node);
  }

  /** One decision at a time can be reached by Tab; the arrow keys go on from it. */
  #stand(item) {
    if (!item || item === this.#current) return;
    if (this.#current) this.#current.firstElementChild.tabIndex = -1;
    item.firstElementChild.tabIndex = 0;
    this.#current = item;
  }

  #key(event) {
    const items = [...this.#list.children].filter((item) => !item.hidden);
    const at = items.indexOf(event.target.closest(".decision"));
    const step = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      Home: 0,
      End: items.length - 1,
      PageDown: at + 10,
      PageUp: at - 10,
    }[event.key];
    if (event.key === "Escape" && this.#current?.firstElementChild.getAttribute("aria-expanded") === "true") {
      this.#current.firstElementChild.click();
    } else if (step !== undefined && at >= 0) {
      items[Math.max(0, Math.min(items.length - 1, step))].firstElementChild.focus();
    } else return;
    event.preventDefault();
  }
}

const keyOf = (decision) => `${decision.at} ${decision.request_id}`;

/** The decisions of a kind, newest first: `notable` reaches further back than `decisions` does. */
function chosen(view, filter) {
  const wanted = (one) => FILTERS[filter](kindOf(one));
  if (filter === "all") return view.decisions;
  const seen = new Set();
  return [...view.decisions, ...view.notable]
    .filter((one) => wanted(one) && !seen.has(keyOf(one)) && seen.add(keyOf(one)))
    .sort((one, other) => other.at - one.at);
}

class DecisionRow {
  #time = el("time");
  #lane = el("span", { class: "lane", "aria-hidden": "true" });
  #laneName = el("span", { class: "sr" });
  #target = el("bdi");
  #whose = el("bdi", { class: "whose" });
  #reason = el("span", { class: "reason" });
  #ttft = el("span", { class: "num" });
  #money = el("span", { class: "num" });
  #button;
  #decision = null;
  #key = "";
  opened = false;

  constructor(toggled) {
    const to = el("span", { class: "to" }, this.#lane, this.#laneName, this.#target);
    this.#button = el(
      "button",
      { type: "button", "aria-expanded": "false", tabindex: "-1" },
      this.#time,
      to,
      this.#whose,
      this.#reason,
      this.#ttft,
      this.#money,
    );
    this.node = el("li", { class: "decision" }, this.#button);
    this.#button.addEventListener("click", () => {
      this.#toggle();
      toggled();
    });
  }

  /** Tell of another decision, or of none. */
  update(decision) {
    show(this.node, decision !== null);
    if (decision === null || keyOf(decision) === this.#key) return;
    if (this.opened) this.#toggle();
    this.#decision = decision;
    this.#key = keyOf(decision);
    const kind = kindOf(decision);
    mark(this.node, "data-kind", kind);
    write(this.#time, format.clock(decision.at));
    mark(this.#lane, "data-lane", decision.lane ?? "none");
    write(this.#laneName, decision.lane ? `${decision.lane}: ` : "");
    writeName(this.#target, decision.target || "refused");
    write(this.#whose, clipped([decision.route, decision.tenant].filter(Boolean).join(", "), 60));
    write(this.#reason, clipped(reasonOf(decision, kind), 400));
    write(this.#ttft, decision.ttft_s === null ? "" : format.seconds(decision.ttft_s));
    write(this.#money, decision.lane === "shared" ? format.nanoUsd(decision.nano_usd) : "");
  }

  #toggle() {
    this.opened = !this.opened;
    mark(this.#button, "aria-expanded", String(this.opened));
    if (this.opened) this.node.append(detail(this.#decision));
    else this.node.lastElementChild.remove();
  }
}

function reasonOf({ reason, failure, cause, status }, kind) {
  if (kind === "preferred") return reason || cause;
  if (kind === "refused") return `refused: ${failure}${status ? ` (${status})` : ""}`;
  const said = kind === "failed" || kind === "left" ? [failure, reason].filter(Boolean).join("; ") : reason;
  return said.startsWith(KINDS[kind]) ? said : `${KINDS[kind]}: ${said}`;
}

/** All there is to say of one: the facts, and the targets that were left out. */
function detail(decision) {
  const pairs = facts(decision).filter(([, text]) => text);
  const list = el(
    "dl",
    {},
    ...pairs.map(([name, text]) =>
      el("div", {}, el("dt", { text: name }), el("dd", {}, el("bdi", { text: clipped(text, 300) }))),
    ),
  );
  return el("div", { class: "detail" }, list, excluded(decision.excluded));
}

const facts = (one) => [
  [
    "outcome",
    `${KINDS[kindOf(one)]}${one.failure ? `: ${one.failure}` : ""}${one.status ? `, status ${one.status}` : ""}`,
  ],
  ["reason", one.reason],
  ["route", `${one.route}${one.relaxed ? " (misses a want)" : ""}`],
  ["model", one.model],
  ["tenant", one.tenant],
  ["attempts", one.attempts > 1 ? String(one.attempts) : ""],
  ["waited", one.waited_s ? format.seconds(one.waited_s) : ""],
  ["first token", one.ttft_s === null ? "" : format.seconds(one.ttft_s)],
  ["whole", format.seconds(one.duration_s)],
  [
    "tokens",
    `${format.count(one.input_tokens)} in, ${format.count(one.output_tokens)} out${one.estimated ? " (estimated)" : ""}`,
  ],
  [
    "cost",
    one.nano_usd || one.unpriced
      ? `${format.nanoUsd(one.nano_usd)}${one.unpriced ? " and what has no price" : ""}`
      : "",
  ],
  ["request", one.request_id],
];

function excluded(all) {
  if (!all.length) return el("p", { class: "quiet", text: "No target was left out." });
  const names = ["target", "rule", "observed", "limit", ""];
  const rows = all.map((one) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, el("bdi", { text: clipped(one.target || "the request") })),
      ...[one.rule, one.observed, one.limit].map((text) => el("td", {}, el("bdi", { text: clipped(text, 300) }))),
      el("td", { text: one.hard ? "hard" : "soft" }),
    ),
  );
  const head = el(
    "thead",
    {},
    el(
      "tr",
      {},
      ...names.map((text) => el("th", { scope: "col" }, text || el("span", { class: "sr", text: "hard or soft" }))),
    ),
  );
  return el(
    "div",
    { class: "scroll" },
    el("table", {}, el("caption", { text: "Left out" }), head, el("tbody", {}, ...rows)),
  );
}
