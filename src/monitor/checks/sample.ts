/** The part of an event that the capability check uses. Not verified: it is compared only with other answers of the same relay. */
export interface Note {
  readonly id: string;
  /** Unix seconds. */
  readonly createdAt: number;
  readonly kind: number;
  /** Empty unless it is a text note of at most `MAX_CONTENT` characters. */
  readonly content: string;
}

/** Collects the well-formed events of a page, each once. */
export class Sample {
  readonly #notes = new Map<string, Note>();

  add(events: readonly unknown[]): void {
    for (const event of events) {
      const note = noteOf(event);
      if (note) this.#notes.set(note.id, note);
    }
  }

  newestFirst(): Note[] {
    return [...this.#notes.values()].sort((a, b) => b.createdAt - a.createdAt);
  }
}

/** Maximum length of a content that is searched for a word, in characters. */
const MAX_CONTENT = 2000;

function noteOf(event: unknown): Note | null {
  if (typeof event !== 'object' || event === null) return null;
  const { id, created_at, kind, content } = event as Record<string, unknown>;
  if (typeof id !== 'string' || !/^[0-9a-f]{64}$/.test(id)) return null;
  if (typeof created_at !== 'number' || !Number.isSafeInteger(created_at)) return null;
  if (typeof kind !== 'number' || typeof content !== 'string') return null;
  const words = kind === 1 && content.length <= MAX_CONTENT ? content : '';
  return { id, createdAt: created_at, kind, content: words };
}

/** URLs, references and hashtags: a full-text search may not index them. */
const NOT_WORDS = /\b(?:https?|nostr|lightning):\S+|#\S+/gi;
const WORD = /(?<![\p{L}\p{N}_])[a-z]{6,20}(?![\p{L}\p{N}_])/giu;

/** The longest word of one of the oldest notes, because the newest may not be indexed yet; null if there is none. */
export function wordToSearch(notes: readonly Note[]): string | null {
  for (const { content } of notes.toReversed()) {
    const words = content.replace(NOT_WORDS, ' ').match(WORD) ?? [];
    const [longest] = words.toSorted((a, b) => b.length - a.length);
    if (longest !== undefined) return longest.toLowerCase();
  }
  return null;
}
