// The live document, once a second, for as long as the page is open.
//
// Read with fetch and not with EventSource, which cannot send the token in a header; a token in a URL would end up in
// histories and logs. A stream that breaks is opened again, after waits that grow to 15 s, each drawn at random so that
// the consoles of a whole team do not come back at one moment; one that has gone silent is taken for broken.

const SILENT_MS = 6000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;
const TOKEN = "spillway-admin-token";

export class LiveStream {
  #url;
  #listener;
  #failures = 0;
  #abort = null;
  #wake = null;

  /** `listener` has `heard(document)`, `away(reason, retryMs)` and `locked(refused)`, which asks for a token. */
  constructor(url, listener) {
    this.#url = url;
    this.#listener = listener;
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
  }

  /** Follow the stream for ever. */
  async run() {
    for (;;) {
      try {
        await this.#follow();
      } catch (error) {
        await this.#recover(error);
      }
    }
  }

  /** Try again now, with this token. */
  unlock(token) {
    keep(token);
    this.#wake?.();
  }

  async #follow() {
    this.#abort = new AbortController();
    const watch = new Watchdog(this.#abort, SILENT_MS);
    try {
      const response = await fetch(this.#url, {
        headers: { accept: "text/event-stream", ...authorization() },
        cache: "no-store",
        credentials: "same-origin",
        redirect: "error",
        signal: this.#abort.signal,
      });
      if (response.status === 401 || response.status === 403) throw new Locked();
      if (!response.ok) throw new Error(`the proxy answers ${response.status}`);
      await this.#read(response.body, watch);
      throw new Error("the proxy ended the stream");
    } finally {
      watch.stop();
      this.#abort.abort(); // whatever went wrong, this connection is not left open
    }
  }

  async #read(body, watch) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const events = new EventReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      watch.feed();
      for (const data of events.feed(value)) {
        this.#failures = 0;
        this.#listener.heard(JSON.parse(data));
      }
    }
  }

  async #recover(error) {
    if (error instanceof Locked) {
      const refused = hasToken();
      this.#failures = 0;
      keep(null);
      this.#listener.locked(refused);
      await new Promise((resolve) => (this.#wake = resolve));
    } else {
      const most = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures++);
      const wait = most * (0.5 + Math.random() / 2);
      this.#listener.away(reasonOf(error), wait);
      await new Promise((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, wait);
      });
    }
    this.#wake = null;
  }

  #hurry() {
    if (this.#failures) this.#wake?.(); // not one that waits for a token
  }
}

class Locked extends Error {}

/** Aborts what has been silent for too long. */
class Watchdog {
  #timer;
  #bark;
  #silentMs;

  constructor(abort, silentMs) {
    this.#bark = () => abort.abort(new Error("the proxy has gone silent"));
    this.#silentMs = silentMs;
    this.feed();
  }

  feed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#bark, this.#silentMs);
  }

  stop() {
    clearTimeout(this.#timer);
  }
}

/** Server-sent events out of text that is cut anywhere: the data of each (HTML standard, 9.2.6). */
export class EventReader {
  #rest = "";
  #data = [];

  *feed(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length) yield this.#data.join("\n");
        this.#data = [];
      } else if (line.startsWith("data:")) {
        this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      }
    }
  }
}

const reasonOf = (error) => (error instanceof TypeError ? "the proxy cannot be reached" : error.message);

function authorization() {
  const token = storedToken();
  return token ? { authorization: `Bearer ${token}` } : {};
}

export const hasToken = () => Boolean(storedToken());
export const forgetToken = () => keep(null);

// The token lives as long as the tab does, and nowhere else.
function storedToken() {
  try {
    return sessionStorage.getItem(TOKEN);
  } catch {
    return fallback;
  }
}

let fallback = null;

function keep(token) {
  fallback = token;
  try {
    if (token === null) sessionStorage.removeItem(TOKEN);
    else sessionStorage.setItem(TOKEN, token);
  } catch {
    // storage is switched off: the page itself remembers it
  }
}
