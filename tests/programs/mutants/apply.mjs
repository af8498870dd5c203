/**
 * Finds the place of a seeded mistake by its tokens, so that it survives what does not change the code itself: a
 * function that moves to another file of its room, other line breaks, quotes, comments and trailing commas.
 *
 * `$name` in a pattern stands for any operand (`event.id`, `this.#window.since`, `MAX_PAGES`), so that a place does not
 * depend on the names of variables. The same name stands for the same operand, and `replace` may use it.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Comments, then words, then any other single character. */
const TOKENS = /(?<=^|\s)(?:\/\/|-- ).*$|(?<=^|\s)\/\*[\s\S]*?\*\/|\w+|\S/gm;
const COMMENT = /^(?:\/\/|-- |\/\*)/;
const PATTERN_TOKENS = /\$[a-z]\w*|\w+|\S/gi;
const WILDCARD = /^\$[a-z]\w*$/i;
const WORD = /^\w+$/;

const readTokens = new Map();

/** The files of a room: `src/<room>.ts` and all below `src/<room>/`, or one file of the repository (`init.sql`). */
export function filesOf(root, room) {
  if (room.includes('.')) return [room];
  const folder = `src/${room}`;
  const inFolder = isThere(join(root, folder))
    ? readdirSync(join(root, folder), { recursive: true })
    : [];
  return [`${folder}.ts`, ...inFolder.map((name) => `${folder}/${name}`).sort()].filter(
    (file) => file.endsWith('.ts') && isThere(join(root, file)),
  );
}

/**
 * Every place of a room that a mutant fits.
 *
 * @returns for each its file, and the text of the file with the mistake in it
 */
export function placesOf(root, { in: room, find, replace }) {
  const pattern = patternOf(find);
  return filesOf(root, room).flatMap((file) => {
    const text = readFileSync(join(root, file), 'utf8');
    return matchesIn(text, pattern).map(({ start, end, operands }) => ({
      file,
      text: text.slice(0, start) + withOperands(replace, operands) + text.slice(end),
    }));
  });
}

function isThere(path) {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function matchesIn(text, pattern) {
  const tokens = tokensOf(text);
  return tokens.flatMap((_, first) => {
    const match = matchAt(tokens, first, pattern, 0, {});
    if (!match) return [];
    const operands = Object.fromEntries(
      Object.entries(match.operands).map(([name, [from, to]]) => [
        name,
        text.slice(tokens[from].start, tokens[to - 1].end),
      ]),
    );
    return [{ start: tokens[first].start, end: tokens[match.next - 1].end, operands }];
  });
}

/** @returns where the match ends and what each wildcard stands for, as ranges of tokens, or null */
function matchAt(tokens, at, pattern, from, operands) {
  for (let index = from; index < pattern.length; index += 1) {
    const wanted = pattern[index];
    if (WILDCARD.test(wanted)) return matchOperand(tokens, at, pattern, index, operands);
    if (tokens[at]?.word !== wanted) return null;
    at += 1;
  }
  return { next: at, operands };
}

/** The longest operand with which the rest of the pattern matches too. */
function matchOperand(tokens, at, pattern, index, operands) {
  const name = pattern[index];
  const known = operands[name];
  const isStart = !['.', '#'].includes(tokens[at - 1]?.word);
  for (const end of isStart ? operandEnds(tokens, at) : []) {
    if (known && wordsOf(tokens, known) !== wordsOf(tokens, [at, end])) continue;
    const match = matchAt(tokens, end, pattern, index + 1, { ...operands, [name]: [at, end] });
    if (match) return match;
  }
  return null;
}

/** Where an operand that begins at a token may end: after each name of its path, the longest first. */
function operandEnds(tokens, at) {
  const ends = [];
  for (let next = at; WORD.test(tokens[next]?.word ?? ''); ) {
    next += 1;
    ends.unshift(next);
    if (tokens[next]?.word === '?' && tokens[next + 1]?.word === '.') next += 1;
    if (tokens[next]?.word !== '.') break;
    next += tokens[next + 1]?.word === '#' ? 2 : 1;
  }
  return ends;
}

function wordsOf(tokens, [from, to]) {
  return tokens
    .slice(from, to)
    .map(({ word }) => word)
    .join(' ');
}

function withOperands(replace, operands) {
  return replace.replace(/\$[a-z]\w*/gi, (name) => operands[name] ?? name);
}

function patternOf(find) {
  return normalised((find.match(PATTERN_TOKENS) ?? []).map((word) => ({ word }))).map(
    ({ word }) => word,
  );
}

function tokensOf(text) {
  const read = readTokens.get(text) ?? readAll(text);
  readTokens.set(text, read);
  return read;
}

function readAll(text) {
  const found = [...text.matchAll(TOKENS)].filter(([word]) => !COMMENT.test(word));
  return normalised(
    found.map(({ 0: word, index }) => ({ word, start: index, end: index + word.length })),
  );
}

/** Both kinds of quotes are one, and a comma before a closing bracket is none. */
function normalised(tokens) {
  return tokens
    .filter(({ word }, index) => word !== ',' || !/^[)\]}]$/.test(tokens[index + 1]?.word ?? ''))
    .map((token) => (token.word === '"' ? { ...token, word: "'" } : token));
}
