/**
 * Elements without HTML: every text becomes a text node, so that nothing of an event is ever markup. Links lead to this
 * origin only.
 */

/** @typedef {import('./types.d.ts').Child} Child */

const SVG = 'http://www.w3.org/2000/svg';

/**
 * Makes an element.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, unknown> | null} attributes `class`, `href`, `data-…`, or a listener such as `onclick`; false,
 *   null and undefined leave an attribute out, true gives it no value
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 * @throws {Error} for a link to another origin
 */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  return fill(element, attributes, children);
}

/**
 * Makes an element of a picture.
 *
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, unknown> | null} attributes
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * @template {Element} Kind
 * @param {Kind} element
 * @param {Record<string, unknown> | null} attributes
 * @param {readonly Child[]} children
 * @returns {Kind}
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === 'function')
      element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else element.setAttribute(name, checked(name, value === true ? '' : String(value)));
  }
  append(element, children);
  return element;
}

/**
 * @param {string} name
 * @param {string} value
 */
function checked(name, value) {
  const leads = ['href', 'src', 'action'].includes(name);
  if (leads && !/^(\/(?!\/)|[?#])/.test(value)) throw new Error(`not a link of ours: ${value}`);
  return value;
}

/**
 * Appends children to an element.
 *
 * @param {Node} parent
 * @param {Child} child
 */
export function append(parent, child) {
  if (child === null || child === undefined || child === false) return;
  if (Array.isArray(child)) for (const one of child) append(parent, one);
  else parent.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
}

/**
 * A path with parameters; those without a value are left out.
 *
 * @param {string} path
 * @param {Record<string, string | number | boolean | null | undefined>} parameters
 */
export function pathOf(path, parameters) {
  const given = Object.entries(parameters).filter(
    ([, value]) => value !== null && value !== undefined && value !== '' && value !== false,
  );
  const query = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  return given.length > 0 ? `${path}?${query}` : path;
}

/**
 * An element by its id.
 *
 * @param {string} id
 * @returns {HTMLElement}
 * @throws {Error} where the document has none
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element ${id}`);
  return element;
}
