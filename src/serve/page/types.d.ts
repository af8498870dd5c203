/** What the API answers, as types for the page: taken from the schemas that check its answers. */
import type { z } from 'zod';
import type { metaSchema } from '../api/answer.ts';
import type { problemSchema } from '../api/problem.ts';
import type { author } from '../api/routes/authors.ts';
import type { eventRow, relayOfEvent } from '../api/routes/events.ts';
import type * as relay from '../api/routes/relay.ts';
import type { listedRelay } from '../api/routes/relays.ts';
import type { totals } from '../api/routes/stats.ts';
import type * as status from '../api/routes/status.ts';

export type Meta = z.output<typeof metaSchema>;
export type ProblemDetails = z.output<typeof problemSchema>;
export type Event = z.output<typeof eventRow>;
export type RelayOfEvent = z.output<typeof relayOfEvent>;
export type Author = z.output<typeof author>;
export type ListedRelay = z.output<typeof listedRelay>;
export type Relay = z.output<typeof relay.relayDetails>;
export type RelayFigures = z.output<typeof relay.figures>;
export type Stretch = z.output<typeof relay.stretch>;
export type StateInterval = z.output<typeof relay.interval>;
export type Check = z.output<typeof relay.check>;
export type Offence = z.output<typeof relay.offence>;
export type Status = z.output<typeof status.status>;
export type StatusRow = z.output<typeof status.described>;
export type Coverage = z.output<typeof status.coverage>;
export type Totals = z.output<typeof totals>;

/** An answer with one thing. */
export interface Answer<Data> {
  readonly data: Data;
  readonly meta: Meta;
}

/** A page of a list. */
export interface ListAnswer<Row> extends Answer<readonly Row[]> {
  readonly next_cursor: string | null;
}

/** What an element may hold; texts stay texts. */
export type Child = Node | string | number | null | undefined | false | readonly Child[];
