// Building and updating the page. Text only ever enters by `textContent` and attributes, so no name can become markup;
// a node is touched only when what it shows has changed, so that a quiet page costs nothing.

const MAX_SHOWN = 160; // a name of ten thousand characters says nothing that its beginning does not

/** An element: `{class, text, ...attributes}`, then children (nodes or strings). */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Show this text. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Show a name that somebody else chose: cut to what can be read, and in full when it is pointed at. */
export function writeName(node, name, most = MAX_SHOWN) {
  const text = clipped(name, most);
  write(node, text);
  mark(node, "title", text === name ? null : name.slice(0, 2000));
}

/** The beginning of a text that is too long to be shown. */
export function clipped(text, most = MAX_SHOWN) {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

/** Set an attribute, or take it away (null). */
export function mark(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

/** Set a custom property of the style sheet: by CSSOM, which a strict policy allows. */
export function setVariable(node, name, value) {
  if (node.style.getPropertyValue(name) !== value) node.style.setProperty(name, value);
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/**
 * Make `parent` hold one node for each item, in order, reusing those of before by key.
 * `make(item)` gives an object with `node` and `update(item)`.
 */
export class Keyed {
  #parent;
  #make;
  #first;
  #views = new Map();

  /** The items stand behind those children that are there already. */
  constructor(parent, make) {
    this.#parent = parent;
    this.#make = make;
    this.#first = parent.lastElementChild;
  }

  update(items, keyOf) {
    const kept = new Map();
    let at = this.#first ? this.#first.nextElementSibling : this.#parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      if (kept.has(key)) continue;
      const view = this.#views.get(key) ?? this.#make(item);
      kept.set(key, view);
      if (view.node === at) at = at.nextElementSibling;
      else this.#parent.insertBefore(view.node, at);
      view.update(item);
    }
    for (const [key, view] of this.#views) if (!kept.has(key)) view.node.remove();
    this.#views = kept;
  }
}
