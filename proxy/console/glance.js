// The first answers: is it well, where does traffic go and why, what does it cost now, and what does that save.

import { byId, clipped, mark, setVariable, show, write, writeName } from "./dom.js";
import { breakEven, kindOf, ofLane, ruleName, spilling, traffic } from "./figures.js";
import * as format from "./format.js";

export function showGlance(view, verdict, troubles) {
  showHealth(view, verdict, troubles);
  showTraffic(view);
  showMoney(view);
  showSums(view);
  showBar(view);
}

function showHealth(view, { is, word }, troubles) {
  mark(byId("health"), "data-is", is);
  write(byId("health"), word);
  const serving = view.targets.filter((target) => target.replicas_serving > 0).length;
  const met = view.routes.flatMap((route) => route.objectives).filter((one) => one.met !== null);
  const objectives = met.length
    ? `, ${met.filter((one) => one.met).length} of ${format.plural(met.length, "objective")} met`
    : "";
  const first = troubles[0];
  write(
    byId("health-text"),
    first
      ? clipped(`${first.title}: ${first.text}`)
      : `${serving} of ${format.plural(view.targets.length, "target")} serve${objectives}`,
  );
  show(byId("health-more"), troubles.length > 1);
  write(byId("health-more"), `and ${troubles.length - 1} more`);
}

function showTraffic(view) {
  const { own, rent, ownShare } = traffic(view);
  const spill = spilling(view);
  write(byId("traffic"), format.percent(ownShare));
  setVariable(byId("split-own"), "--share", `${(ownShare ?? 0) * 100}%`);
  setVariable(byId("split-rent"), "--share", `${ownShare === null ? 0 : (1 - ownShare) * 100}%`);
  const rule = spill.share ? spill.rules[0] : undefined;
  const spilled = rule
    ? `${format.percent(spill.share)} spilled in the last ${format.duration(view.shares_s)}`
    : "nothing spills";
  write(byId("traffic-text"), `${format.rate(own + rent)} requests/s, ${spilled}`);
  const last = rule && [...view.notable, ...view.decisions].find((one) => kindOf(one) === "spilled");
  const why = rule ? last?.reason || `most by ${ruleName(rule[0])}` : "";
  write(byId("traffic-why"), clipped(why, 200));
  mark(byId("traffic-why"), "title", why ? clipped(why, 600) : null);
}

function showMoney(view) {
  const { money } = view;
  if (money === null) {
    for (const id of ["cost", "saving"]) write(byId(id), format.NOTHING);
    for (const id of ["cost-text", "saving-text"])
      write(byId(id), "The store is away: money is known again when it is back.");
    return write(byId("cost-today"), "");
  }
  write(byId("cost"), format.nanoUsd(money.dedicated_nano_usd_per_h + money.shared_nano_usd_per_h));
  const idle = money.idle_nano_usd_per_h ? `, ${format.nanoUsd(money.idle_nano_usd_per_h)} of it idle` : "";
  write(
    byId("cost-text"),
    `GPUs ${format.nanoUsd(money.dedicated_nano_usd_per_h)}${idle}; providers ${format.nanoUsd(money.shared_nano_usd_per_h)}`,
  );
  const { today } = money;
  write(
    byId("cost-today"),
    today
      ? `Today: GPUs ${format.nanoUsd(today.provisioned_nano_usd)}, providers ${format.nanoUsd(today.shared_nano_usd)}`
      : "",
  );
  write(byId("saving"), format.nanoUsd(money.saving_nano_usd_per_h));
  write(byId("saving-text"), savingWords(view));
}

function savingWords(view) {
  const { own, shared } = breakEven(ofLane(view, "dedicated"));
  if (own === null) return "No dedicated target has both served tokens and a shared price to compare with.";
  const prices = `${format.nanoUsd(own)} a million tokens on your GPUs, ${format.nanoUsd(shared)} at shared prices.`;
  return own <= shared ? prices : `${prices} Below break-even: too idle now.`;
}

function showSums(view) {
  for (const [id, lane] of [
    ["own-sum", "dedicated"],
    ["rent-sum", "shared"],
  ]) {
    const targets = ofLane(view, lane);
    const inFlight = targets.reduce((total, target) => total + target.in_flight, 0);
    write(
      byId(id),
      targets.length ? `${format.plural(targets.length, "target")}, ${format.count(inFlight)} in flight` : "",
    );
  }
}

function showBar({ policy, version, processes, as_of }) {
  writeName(byId("bar-policy"), policy.revision, 16);
  write(byId("bar-since"), `${format.duration(as_of - policy.loaded_at)} ago`);
  write(byId("bar-proxies"), format.count(processes));
  writeName(byId("bar-version"), version, 16);
}
