// What stands rather than moves: troubles, routes with their objectives, budgets, policy and process.

import { Keyed, byId, el, mark, setVariable, show, write, writeName } from "./dom.js";
import { ruleName } from "./figures.js";
import * as format from "./format.js";

export class Standing {
  #troubles = new Keyed(byId("troubles"), () => new TroubleItem());
  #routes = new Keyed(byId("routes"), () => new RouteItem());
  #budgets = new Keyed(byId("budgets"), () => new BudgetItem());
  #process = new Keyed(byId("process"), () => new Pair());

  update(view, troubles) {
    this.#troubles.update(troubles, (one) => one.key);
    show(byId("troubles"), troubles.length > 0);
    show(byId("troubles-empty"), !troubles.length);
    this.#routes.update(view.routes, (route) => route.name);
    write(byId("routes-span"), `last ${format.duration(view.shares_s)}`);
    this.#budgets.update(view.budgets, (budget) => `${budget.name} ${budget.per}`);
    show(byId("budgets-empty"), !view.budgets.length);
    this.#process.update(pairs(view), ([name]) => name);
  }
}

const pairs = ({ policy, as_of, started_at, version, processes, worker, waiting_room_here, event_loop_lag_s_here }) => [
  ["Policy served", policy.revision],
  ["Generation", `${policy.generation}, since ${format.day(policy.loaded_at)}`],
  [
    "Reloads refused",
    policy.error
      ? `${format.count(policy.reload_failures)}, the last ${format.day(policy.error.at)}`
      : format.count(policy.reload_failures),
  ],
  ["This process", `${worker === null ? "" : `worker ${worker}, `}up ${format.duration(as_of - started_at)}`],
  ["Proxies heard of", format.count(processes)],
  ["Waiting for room", format.count(waiting_room_here)],
  ["Event loop late by", format.seconds(event_loop_lag_s_here)],
  ["Version", version],
];

class Pair {
  #dt = el("dt");
  #dd = el("dd");
  node = el("div", {}, this.#dt, this.#dd);

  update([name, text]) {
    write(this.#dt, name);
    writeName(this.#dd, text);
  }
}

class TroubleItem {
  #title = el("bdi");
  #sign = el("b", { class: "sign" }, this.#title);
  #text = el("span");
  #lines = el("ul", { class: "mono" });
  node = el("li", {}, this.#sign, this.#text, this.#lines);

  update({ is, title, text, lines = [] }) {
    mark(this.#sign, "data-is", is);
    writeName(this.#title, title);
    write(this.#text, text);
    const same =
      this.#lines.children.length === lines.length &&
      lines.every((line, at) => this.#lines.children[at].textContent === line);
    if (!same) this.#lines.replaceChildren(...lines.map((text) => el("li", { text })));
  }
}

class RouteItem {
  #name = el("bdi", { class: "name" });
  #about = el("span", { class: "quiet small" });
  #own = el("i");
  #rent = el("i");
  #split = el("div", { class: "split", "aria-hidden": "true" }, this.#own, this.#rent);
  #words = el("p", { class: "small quiet" });
  #objectiveList = el("ul", { class: "objectives" });
  #objectives = new Keyed(this.#objectiveList, () => new ObjectiveItem());
  node = el(
    "li",
    {},
    el("p", { class: "top" }, this.#name, this.#about),
    this.#split,
    this.#words,
    this.#objectiveList,
  );

  update(route) {
    writeName(this.#name, route.name);
    write(this.#about, `${format.rate(route.requests_per_s_here)}/s, prefers ${route.prefer}`);
    setVariable(this.#own, "--share", `${(route.dedicated_share_here ?? 0) * 100}%`);
    setVariable(this.#rent, "--share", `${(route.shared_share_here ?? 0) * 100}%`);
    write(this.#words, routeWords(route));
    this.#objectives.update(route.objectives, (one) => one.rule);
  }
}

function routeWords(route) {
  if (!route.requests_here) return "no request";
  const said = [
    `${format.percent(route.dedicated_share_here ?? 0)} dedicated`,
    `${format.percent(route.shared_share_here ?? 0)} shared`,
  ];
  const rules = Object.entries(route.spilled_by_here).slice(0, 3);
  if (rules.length)
    said.push(`spilled by ${rules.map(([rule, times]) => `${ruleName(rule)} ${format.count(times)}`).join(", ")}`);
  if (route.refused_here) said.push(`${format.count(route.refused_here)} refused`);
  if (route.failed_here) said.push(`${format.count(route.failed_here)} failed`);
  return said.join(" · ");
}

class ObjectiveItem {
  #sign = el("span", { class: "sign" });
  #figures = el("span");
  node = el("li", {}, this.#sign, this.#figures);

  update({ rule, limit_s, observed_s, met, required }) {
    mark(this.#sign, "data-is", met === null ? "none" : met ? "good" : "warn");
    write(this.#sign, ruleName(rule));
    const word = met === null ? "too few samples yet" : met ? "within" : "above";
    const observed = met === null ? "" : `${format.seconds(observed_s)}, `;
    write(
      this.#figures,
      `${observed}${word}${met === null ? "; " : " the "}${required ? "required" : "wanted"} ${format.seconds(limit_s)}`,
    );
  }
}

const BUDGET_SIGNS = { open: "good", alert: "warn", exhausted: "bad", unknown: "none" };

class BudgetItem {
  #name = el("bdi", { class: "name" });
  #sign = el("span", { class: "sign small" });
  #spent = el("i");
  #heldBack = el("i", { class: "held" });
  #bar = el("div", { class: "bar-line", "aria-hidden": "true" }, this.#spent, this.#heldBack);
  #words = el("p", { class: "small quiet" });
  node = el("li", {}, el("p", { class: "top" }, this.#name, this.#sign), this.#bar, this.#words);

  update(budget) {
    const { limit_nano_usd: limit, spent_nano_usd: spent, held_nano_usd: held } = budget;
    writeName(this.#name, budget.name);
    mark(this.#sign, "data-is", BUDGET_SIGNS[budget.state] ?? "none");
    write(this.#sign, budget.state === "alert" ? `past ${budget.alert_percent}%` : budget.state);
    setVariable(this.#spent, "--share", `${Math.min(100, budget.used_share * 100)}%`);
    setVariable(this.#heldBack, "--share", `${limit ? Math.min(100, (held / limit) * 100) : 0}%`);
    mark(this.#bar, "data-state", budget.state);
    const window = format.every(budget.per);
    const said = [`${format.nanoUsd(spent)} of ${format.nanoUsd(limit)} ${window}`];
    if (held) said.push(`${format.nanoUsd(held)} held`);
    if (budget.resets_in_s !== null) said.push(`resets in ${format.duration(budget.resets_in_s)}`);
    if (budget.enforce !== "hard") said.push(budget.enforce);
    write(this.#words, said.join(" · "));
  }
}
