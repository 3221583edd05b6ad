// How figures are written: the same everywhere, short, and with their unit. Nothing known is a dash, never a nought.

export const NOTHING = "–";
const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayFormat = new Intl.DateTimeFormat("en-GB", {
  day: "2-digit",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** Seconds as `0.4 ms`, `38 ms`, `1.92 s`, `41.3 s`, `250 s`. */
export function seconds(value) {
  if (!known(value)) return NOTHING;
  if (value >= 0.9995)
    return value < 9.995 ? `${value.toFixed(2)} s` : value < 99.95 ? `${value.toFixed(1)} s` : `${value.toFixed(0)} s`;
  const ms = value * 1000;
  return ms < 9.95 ? `${ms.toFixed(1)} ms` : `${ms.toFixed(0)} ms`;
}

/** How long something takes, or took: `41 s`, `12 min`, `5 h 3 min`, `3 d 4 h`. */
export function duration(value) {
  if (!known(value)) return NOTHING;
  const minutes = Math.floor(Math.max(0, value) / 60);
  if (minutes < 1) return `${Math.floor(Math.max(0, value))} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Dollars: `$0.00042`, `$0.013`, `$4.20`, `$1,234`; a minus before the sign. */
export function usd(value) {
  if (!known(value)) return NOTHING;
  const size = Math.abs(value);
  return (value < 0 && size >= 5e-7 ? "−$" : "$") + amount(size);
}

function amount(size) {
  if (size < 5e-7) return "0";
  if (size >= 999.5) return grouped.format(size);
  if (size >= 0.0995) return size.toFixed(2);
  return size.toFixed(Math.min(6, 1 - Math.floor(Math.log10(size))));
}

export const nanoUsd = (value) => usd(known(value) ? value / 1e9 : undefined);

/** Between 0 and 1, as `0%`, `<1%`, `28%`; what is above nothing never reads as nothing. */
export function percent(share) {
  if (!known(share)) return NOTHING;
  if (share > 0 && share < 0.01) return "<1%";
  if (share < 1 && share > 0.99) return ">99%";
  return `${Math.round(share * 100)}%`;
}

/** A count: `0`, `842`, `12.3k`, `4.56M`. */
export function count(value) {
  if (!known(value)) return NOTHING;
  if (value < 9999.5) return grouped.format(value);
  const [size, unit] = value < 999_500 ? [value / 1e3, "k"] : value < 999.5e6 ? [value / 1e6, "M"] : [value / 1e9, "G"];
  return `${size.toPrecision(3)}${unit}`;
}

/** A rate, with a decimal while it is small: `0.4`, `18.2`, `250`. */
export function rate(value) {
  if (!known(value)) return NOTHING;
  return value < 99.95 ? value.toFixed(1) : count(value);
}

/** Unix time in seconds, as the reader's clock has it. */
export const clock = (at) => (known(at) && at > 0 ? clockFormat.format(new Date(at * 1000)) : NOTHING);

export const day = (at) => (known(at) && at > 0 ? dayFormat.format(new Date(at * 1000)) : NOTHING);

/** How often a budget of a window comes: `a day`, `an hour`, `in all`. */
export const every = (per) => ({ total: "in all", hour: "an hour" })[per] ?? `a ${per}`;

export const plural = (many, one, more = `${one}s`) => `${grouped.format(many)} ${many === 1 ? one : more}`;
