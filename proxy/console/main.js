// The console: one stream in, the whole page out, at most once a frame.

import { Decisions } from "./decisions.js";
import { byId, mark, show, write } from "./dom.js";
import { troubles, verdict } from "./figures.js";
import * as format from "./format.js";
import { showGlance } from "./glance.js";
import { Lane } from "./lanes.js";
import { Standing } from "./standing.js";
import { LiveStream, forgetToken, hasToken } from "./stream.js";
import { Trends } from "./trends.js";
import { Announcer } from "./announcer.js";

const FORMAT = 1;
const STALE_MS = 3500;

class Console {
  #lanes = [
    new Lane(byId("own"), byId("own-empty"), "dedicated"),
    new Lane(byId("rent"), byId("rent-empty"), "shared"),
  ];
  #trends = new Trends(byId("charts"));
  #decisions = new Decisions();
  #standing = new Standing();
  #announcer = new Announcer(byId("announcer"));
  #view = null;
  #heardAt = null;
  #away = "connecting";
  #retryAt = 0;
  #drawing = false;

  constructor() {
    setInterval(() => this.#tell(), 500);
  }

  heard(view) {
    if (view.format !== FORMAT) return this.away("another release answers: reload this page", 0);
    this.#view = view;
    this.#heardAt = performance.now();
    this.#away = "";
    document.body.removeAttribute("data-empty");
    show(byId("forget"), hasToken());
    this.#tell();
    if (this.#drawing) return;
    this.#drawing = true; // a page in the background draws nothing, and has nothing to catch up on
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#draw();
    });
  }

  away(reason, retryMs) {
    this.#away = reason;
    this.#retryAt = performance.now() + retryMs;
    this.#tell();
  }

  locked(refused) {
    this.#away = "locked: the admin token is needed";
    this.#retryAt = 0;
    this.#tell();
    const text = "This proxy shows its figures to those who have its admin token.";
    write(byId("ask-text"), refused ? "The proxy does not know this token." : text);
    byId("token").value = "";
    if (!byId("ask").open) byId("ask").showModal();
    byId("token").focus();
  }

  #draw() {
    const view = this.#view;
    const found = troubles(view, format);
    const said = verdict(view, found);
    showGlance(view, said, found);
    for (const lane of this.#lanes) lane.update(view);
    this.#trends.update(view);
    this.#decisions.update(view);
    this.#standing.update(view, found);
    this.#announcer.note(view, said, found);
    const title = `${said.word} · Spillway`;
    if (document.title !== title) document.title = title;
  }

  /** How fresh the figures are. */
  #tell() {
    const age = this.#heardAt === null ? null : performance.now() - this.#heardAt;
    const stale = this.#away !== "" || (age !== null && age > STALE_MS);
    const heard = byId("heard");
    mark(heard, "data-state", !stale ? "live" : this.#away === "connecting" ? "waiting" : "away");
    mark(document.body, "data-stale", stale && age !== null && age > 1000);
    const ago = age === null ? "" : `last heard ${format.duration(age / 1000)} ago`;
    const retry =
      this.#retryAt > performance.now()
        ? `, trying again in ${Math.ceil((this.#retryAt - performance.now()) / 1000)} s`
        : "";
    write(heard, stale ? [ago, `${this.#away}${retry}`].filter(Boolean).join(": ") : "live");
    this.#announcer.contact(!stale, this.#away);
  }
}

const page = new Console();
const stream = new LiveStream("admin/live", page);

byId("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId("token").value.trim();
  byId("token").value = "";
  byId("ask").close();
  stream.unlock(token);
});
byId("forget").addEventListener("click", () => {
  forgetToken();
  location.reload();
});
byId("ask").addEventListener("cancel", (event) => event.preventDefault());
stream.run();
