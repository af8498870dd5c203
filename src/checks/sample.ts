/** What is looked at of an event that a relay shows. Nothing of it is verified: it is only held against the relay's own answers. */
export interface Note {
  readonly id: string;
  /** Unix seconds. */
  readonly createdAt: number;
  readonly kind: number;
  /** Empty unless it is a text note of usual length. */
  readonly content: string;
}

/** The events of a page that have the look of one, each once. The rest of a page is let go as it comes. */
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

/** A longer content, in characters, is not looked for words. */
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

/** Addresses and references are not what a search looks through. */
const NOT_WORDS = /\b(?:https?|nostr|lightning):\S+|#\S+/gi;
const WORD = /(?<![\p{L}\p{N}_])[a-z]{6,20}(?![\p{L}\p{N}_])/giu;

/** A word of one of the older notes: the newest may not be in the relay's index yet. Null where there is none. */
export function wordToSearch(notes: readonly Note[]): string | null {
  for (const { content } of notes.toReversed()) {
    const words = content.replace(NOT_WORDS, ' ').match(WORD) ?? [];
    const [longest] = words.toSorted((a, b) => b.length - a.length);
    if (longest !== undefined) return longest.toLowerCase();
  }
  return null;
}
