/** Questions to the API, which is the only source of this page. */

/** @typedef {import('./types.d.ts').ProblemDetails} ProblemDetails */
/** @typedef {import('./types.d.ts').Meta} Meta */

/** An answer that is an error, with what to do about it. */
export class ApiError extends Error {
  /**
   * @param {number} status the HTTP status; 0: no answer
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
  }
}

/** Receives the `meta` of each answer. @type {(meta: Meta) => void} */
let onMeta = () => {};

/** @param {(meta: Meta) => void} listener called with the `meta` of every answer from now on */
export function watchMeta(listener) {
  onMeta = listener;
}

/**
 * Asks the API.
 *
 * @template Data
 * @param {string} path with its parameters, such as `/v1/status`
 * @returns {Promise<import('./types.d.ts').Answer<Data>>}
 * @throws {ApiError}
 */
export async function ask(path) {
  const answer = await fetched(path);
  const body = await answer.json().catch(() => null);
  if (!answer.ok || body === null) throw new ApiError(answer.status, detailOf(answer, body));
  onMeta(body.meta);
  return body;
}

/**
 * Asks for a list.
 *
 * @template Row
 * @param {string} path
 * @returns {Promise<import('./types.d.ts').ListAnswer<Row>>}
 * @throws {ApiError}
 */
export async function askList(path) {
  return /** @type {Promise<import('./types.d.ts').ListAnswer<Row>>} */ (ask(path));
}

/**
 * Asks for a list page by page.
 *
 * @template Row
 * @param {string} path
 * @param {number} pages at most
 * @returns {Promise<{ rows: Row[], isWhole: boolean }>}
 * @throws {ApiError}
 */
export async function askPages(path, pages) {
  /** @type {Row[]} */
  const rows = [];
  const sign = path.includes('?') ? '&' : '?';
  let next = path;
  for (let page = 0; page < pages; page += 1) {
    /** @type {import('./types.d.ts').ListAnswer<Row>} */
    const answer = await askList(next);
    rows.push(...answer.data);
    if (answer.next_cursor === null) return { rows, isWhole: true };
    next = `${path}${sign}cursor=${encodeURIComponent(answer.next_cursor)}`;
  }
  return { rows, isWhole: false };
}

/** @param {string} path */
async function fetched(path) {
  try {
    return await fetch(path, { headers: { accept: 'application/json' } });
  } catch {
    throw new ApiError(0, 'The archive does not answer: the service is down, or the network is.');
  }
}

/**
 * @param {Response} answer
 * @param {Partial<ProblemDetails> | null} body
 */
function detailOf(answer, body) {
  const retry = answer.headers.get('retry-after');
  const detail = body?.detail ?? `The archive answered ${answer.status}.`;
  return retry ? `${detail} Try again in ${retry} s.` : detail;
}
