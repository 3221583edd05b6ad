// What was seen, second by second: rings of a fixed size, so that a page left open for a week needs no more memory than
// one of an hour.

const MOST_SERIES = 1000; // a policy has fewer; whoever says otherwise does not get our memory

/** One figure over time. A second without a value holds NaN; `silent` is how long the last one has been. */
class Ring {
  #values;
  #next = 0;
  silent = 0;

  constructor(capacity) {
    this.#values = new Float64Array(capacity).fill(NaN);
  }

  push(value) {
    const known = typeof value === "number" && !Number.isNaN(value);
    this.#values[this.#next] = known ? value : NaN;
    this.#next = (this.#next + 1) % this.#values.length;
    this.silent = known ? 0 : this.silent + 1;
  }

  /** The last `many` values, oldest first; null where there is none. */
  last(many) {
    const capacity = this.#values.length;
    return Array.from({ length: many }, (_, at) => {
      const value = this.#values[(this.#next - many + at + capacity) % capacity];
      return Number.isNaN(value) ? null : value;
    });
  }
}

/** Many figures on one clock: one that appears later begins with nothing; one that has gone is forgotten. */
export class History {
  #capacity;
  #times;
  #series = new Map();
  #size = 0;
  #latest = 0;

  constructor(capacity) {
    this.#capacity = capacity;
    this.#times = new Ring(capacity);
  }

  get size() {
    return this.#size;
  }

  get series() {
    return this.#series.size;
  }

  /** Note the figures (a Map of name to number or null) of a time that is later than those before. */
  note(at, figures) {
    if (at <= this.#latest) return;
    this.#latest = at;
    this.#times.push(at);
    this.#size = Math.min(this.#capacity, this.#size + 1);
    for (const name of figures.keys()) {
      if (!this.#series.has(name) && this.#series.size < MOST_SERIES) this.#series.set(name, new Ring(this.#capacity));
    }
    for (const [name, ring] of this.#series) {
      ring.push(figures.get(name));
      if (ring.silent > this.#capacity) this.#series.delete(name);
    }
  }

  /** The times, then the values of each name, of the last `many` notes. */
  columns(names, many) {
    const size = Math.min(many, this.#size);
    return [
      this.#times.last(size),
      ...names.map((name) => this.#series.get(name)?.last(size) ?? Array(size).fill(null)),
    ];
  }
}
