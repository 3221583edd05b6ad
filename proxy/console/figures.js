// What the page says that the live view does not say in so many words. Pure: a view in, figures out.

const sum = (items, of) => items.reduce((total, item) => total + (of(item) ?? 0), 0);

const LANES = ["dedicated", "shared"];
const BUSY_LOOP_S = 0.1;
const UNSERVED = 0.01; // of a route's requests: fewer are no trouble of the route

/** The targets of a lane, in the policy's order. */
export const ofLane = (view, lane) => view.targets.filter((target) => target.lane === lane);

/** Requests a second by lane, and the dedicated lane's share of them (null without any). */
export function traffic(view) {
  const [own, rent] = LANES.map((lane) => sum(ofLane(view, lane), (target) => target.requests_per_s_here));
  return { own, rent, ownShare: own + rent > 0 ? own / (own + rent) : null };
}

/** Of all routes: requests, those that spilled, and by which rule, most first. */
export function spilling(view) {
  const by = new Map();
  for (const route of view.routes) {
    for (const [rule, times] of Object.entries(route.spilled_by_here)) by.set(rule, (by.get(rule) ?? 0) + times);
  }
  const rules = [...by].sort((one, other) => other[1] - one[1]);
  const requests = sum(view.routes, (route) => route.requests_here);
  const spilled = sum(view.routes, (route) => (route.spill_share_here ?? 0) * route.requests_here);
  return { requests, rules, share: requests ? spilled / requests : null };
}

/**
 * Dollars a million tokens of the dedicated targets together, and what the same tokens cost at shared prices: the
 * break-even line. Only of targets of which both are known; null where there are none.
 */
export function breakEven(targets) {
  let mtok = 0;
  let own = 0;
  let shared = 0;
  for (const { money } of targets) {
    if (!money?.nano_usd_per_mtok || money.nano_usd_per_h === null || money.shared_nano_usd_per_mtok === null) continue;
    const mtokPerHour = money.nano_usd_per_h / money.nano_usd_per_mtok;
    mtok += mtokPerHour;
    own += money.nano_usd_per_h;
    shared += mtokPerHour * money.shared_nano_usd_per_mtok;
  }
  return mtok > 0 ? { own: own / mtok, shared: shared / mtok } : { own: null, shared: null };
}

/**
 * The loosest objective that a route has on this percentile: a target that is above it suits nobody. Below it, it may
 * still be too slow for a tighter route, which then is not sent there. Null where there is none.
 */
export function loosest(view, rule) {
  const found = view.routes.flatMap(({ name, objectives }) =>
    objectives.filter((one) => one.rule === rule).map((one) => ({ limit_s: one.limit_s, route: name })),
  );
  return found.length ? found.reduce((one, other) => (other.limit_s > one.limit_s ? other : one)) : null;
}

/** A target's state: how bad it is, and the word for it. */
export function stateOf(target) {
  const all = target.replicas.length;
  if (target.breaker === null) return { is: "none", word: "no replica" };
  if (target.breaker === "open") return { is: "bad", word: "open" };
  if (target.breaker === "half_open") return { is: "warn", word: "probing" };
  if (target.replicas_serving < all) return { is: "warn", word: `${target.replicas_serving} of ${all}` };
  if (target.saturation !== null && target.saturation >= 1) return { is: "full", word: "full" };
  if (all && target.replicas.every((replica) => replica.full_for_s)) return { is: "full", word: "full" };
  return { is: "good", word: "serves" };
}

/** The kind of a decision: where it went against the policy's first wish, if it did. */
export function kindOf(decision) {
  if (decision.outcome === "refused" || decision.outcome === "failed") return decision.outcome;
  if (decision.outcome === "client_left") return "left";
  return { spillover: "spilled", fallback: "fallback", hedge: "hedged" }[decision.cause] ?? "preferred";
}

/** What an operator should look at, worst first: `{key, is, title, text, lines}`. */
export function troubles(view, write) {
  const found = [
    ...targetTroubles(view, write),
    ...podTroubles(view),
    ...healthTroubles(view),
    ...routeTroubles(view, write),
    ...budgetTroubles(view, write),
  ];
  return found.sort((one, other) => (one.is === "bad" ? 0 : 1) - (other.is === "bad" ? 0 : 1));
}

function* targetTroubles(view, write) {
  for (const target of view.targets) {
    const opened = target.replicas.filter((replica) => replica.breaker === "open");
    if (!opened.length) continue;
    const soonest = Math.min(...opened.map((replica) => replica.open_for_s ?? Infinity));
    const next = Number.isFinite(soonest) ? `; next try in ${write.duration(soonest)}` : "";
    const all = target.breaker === "open";
    const text = all
      ? `the breaker is open${next}`
      : `${opened.length} of ${target.replicas.length} replicas are not serving${next}`;
    yield { key: `target ${target.name}`, is: all ? "bad" : "warn", title: target.name, text };
  }
}

// That a list is empty, or odd, stands beside its target: one that is asleep on purpose is no trouble.
function* podTroubles(view) {
  for (const { name, found } of view.targets) {
    if (!found || found.up || !found.trouble) continue;
    const known = found.age_s === null ? "where its pods are is not known" : "pods that come or go are not seen";
    yield { key: `pods ${name}`, is: "warn", title: name, text: `${known}: ${found.trouble}` };
  }
}

function* healthTroubles(view) {
  const { health, policy } = view;
  if (health.status === "draining")
    yield { key: "draining", is: "warn", title: "draining", text: "no new requests come here; streams finish" };
  for (const [part, text] of Object.entries(health.degraded))
    yield { key: `degraded ${part}`, is: "warn", title: part, text };
  if (policy.error) {
    const { revision, problems, problem_count } = policy.error;
    const more = problem_count > problems.length ? [`and ${problem_count - problems.length} more`] : [];
    const text = `the new text${revision ? ` ${revision}` : ""} was refused; ${policy.revision} serves on`;
    yield { key: "policy", is: "warn", title: "policy", text, lines: [...problems, ...more] };
  }
  if (view.event_loop_lag_s_here > BUSY_LOOP_S) {
    yield { key: "lag", is: "warn", title: "this process is busy", text: "its event loop runs late: add proxies" };
  }
}

function* routeTroubles(view, write) {
  for (const route of view.routes) {
    const unserved = route.refused_here + route.failed_here;
    if (unserved > UNSERVED * (route.requests_here + route.refused_here)) yield unservedTrouble(route, view, write);
    for (const one of route.objectives) {
      if (one.met !== false) continue;
      const text = `${ruleName(one.rule)} is ${write.seconds(one.observed_s)}, ${one.required ? "required" : "wanted"} ${write.seconds(one.limit_s)}`;
      yield { key: `route ${route.name} ${one.rule}`, is: "warn", title: `route ${route.name}`, text };
    }
  }
}

function unservedTrouble({ name, refused_here, failed_here, refused_by_here }, view, write) {
  const by = Object.keys(refused_by_here)[0];
  const said = [];
  if (refused_here) said.push(`${write.count(refused_here)} refused${by ? `, most by ${ruleName(by)}` : ""}`);
  if (failed_here) said.push(`${write.count(failed_here)} failed`);
  const text = `${said.join("; ")}, in the last ${write.duration(view.shares_s)}`;
  return { key: `unserved ${name}`, is: "warn", title: `route ${name}`, text };
}

function* budgetTroubles(view, write) {
  for (const budget of view.budgets) {
    if (budget.state !== "exhausted") continue;
    const until = budget.resets_in_s === null ? "" : `; resets in ${write.duration(budget.resets_in_s)}`;
    const text = `${write.nanoUsd(budget.spent_nano_usd)} of ${write.nanoUsd(budget.limit_nano_usd)} ${write.every(budget.per)} are spent${until}`;
    yield { key: `budget ${budget.name} ${budget.per}`, is: "warn", title: `budget ${budget.name}`, text };
  }
}

/** `ttft_p99` as people write it. */
export function ruleName(rule) {
  const [what, percentile] = rule.split("_");
  return percentile && /^(ttft|itl|e2e)$/.test(what) ? `${what.toUpperCase()} ${percentile}` : rule;
}

/** All of it in a word, and how bad it is. */
export function verdict(view, found) {
  const serving = view.targets.some((target) => target.replicas_serving > 0);
  if (view.health.status === "draining") return { is: "warn", word: "Draining" };
  if (view.targets.length && !serving) return { is: "bad", word: "Down" };
  if (found.some((one) => one.is === "bad")) return { is: "bad", word: "Degraded" };
  return found.length ? { is: "warn", word: "Degraded" } : { is: "good", word: "Healthy" };
}
