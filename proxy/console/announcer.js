// What a screen reader is told unasked: changes of state, and never the figures, which change every second.

import { clipped, write } from "./dom.js";
import { kindOf } from "./figures.js";

const QUIET_S = 15; // spilling is over when none has spilled for so long

export class Announcer {
  #node;
  #word = null;
  #inContact = null;
  #revision = null;
  #refused = null;
  #spilledAt = null;
  #spilling = false;

  constructor(node) {
    this.#node = node;
  }

  note(view, { word }, troubles) {
    const first = troubles[0];
    if (this.#word !== null && word !== this.#word) this.#say(first ? `${word}. ${first.title}: ${first.text}` : word);
    this.#word = word;
    const { revision, error } = view.policy;
    if (this.#revision !== null && revision !== this.#revision) this.#say(`Policy ${revision} serves now`);
    this.#revision = revision;
    const refused = error?.revision ?? null;
    if (refused !== null && refused !== this.#refused) this.#say("A new policy was refused");
    this.#refused = refused;
    this.#noteSpill(view);
  }

  #noteSpill(view) {
    const last = [...view.notable, ...view.decisions].find((one) => kindOf(one) === "spilled");
    if (last) this.#spilledAt = Math.max(this.#spilledAt ?? 0, last.at);
    const spilling = this.#spilledAt !== null && view.as_of - this.#spilledAt < QUIET_S;
    if (spilling && !this.#spilling) this.#say(`Spilling: ${last?.reason ?? ""}`);
    if (!spilling && this.#spilling) this.#say("Nothing spills any more");
    this.#spilling = spilling;
  }

  contact(live, reason) {
    if (this.#inContact === null && !live) return; // not yet
    if (this.#inContact !== null && live !== this.#inContact)
      this.#say(live ? "In touch with the proxy again" : `Out of touch: ${reason || "silent"}`);
    this.#inContact = live;
  }

  #say(text) {
    write(this.#node, clipped(text, 300));
  }
}
