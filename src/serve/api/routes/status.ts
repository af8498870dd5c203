import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { coverageSchema, oneOf, responsesOf } from '../answer.ts';
import { type Context, coverageOf, type RelayTable } from '../context.ts';

export const described = z.object({
  section: z.string(),
  name: z.string(),
  value: z.string(),
  unit: z
    .enum(['text', 'time', 'count', 'estimate', 'share', 'milliseconds', 'bytes'])
    .describe('How the value is to be read; time is UTC, ISO 8601; estimate a count, about.'),
  age: z
    .int()
    .nullable()
    .optional()
    .describe('How old the answer may be, in seconds; null: an estimate without statistics yet.'),
});

export const status = z.object({
  works: z.boolean().describe('Whether every service does its work.'),
  problems: z.array(z.string()).describe('What keeps it from working, a sentence each.'),
  rows: z.array(described).describe('What npm run status prints.'),
});

const network = z.object({
  network: z.string(),
  relays: z.int(),
  up: z.int(),
  visited: z.int(),
  complete: z.int().describe('Relays of which nothing that has come is missing.'),
  share: z.number().nullable(),
});

export const coverage = z.object({
  ...coverageSchema.shape,
  known: z.int().describe('Relays known, visited or not.'),
  caught_up: z.int().describe('Visited relays that are read to their end, but for holes.'),
  failing: z.int().describe('Relays whose latest visits failed.'),
  networks: z.array(network),
});

/** GET /v1/status and /v1/coverage. */
export function addStatusRoutes(api: FastifyInstance, context: Context): void {
  api.get(
    '/v1/status',
    {
      config: { example: '/v1/status' },
      schema: {
        tags: ['archive'],
        summary: 'How the archive stands',
        description:
          'Whether it works, what it does now, how much is archived and at what rate, how complete it is and when it will be done, which relays fail and why, what is not proven, disk, Tor, versions: what npm run status prints.',
        querystring: z.strictObject({}),
        response: responsesOf(oneOf(status)),
      },
    },
    async () => {
      const { problems, rows } = await context.status.get();
      const data = { works: problems.length === 0, problems, rows };
      return { data, meta: await context.meta() };
    },
  );
  api.get(
    '/v1/coverage',
    {
      config: { example: '/v1/coverage', maxAge: 10 },
      schema: {
        tags: ['archive'],
        summary: 'How complete the archive is',
        description:
          'Over all relays and by network. complete counts relays of which every wanted second that has come is proven; share is the mean over visited relays.',
        querystring: z.strictObject({}),
        response: responsesOf(oneOf(coverage)),
      },
    },
    async () => {
      const { relays, coverage: whole, asOf } = await context.relays();
      const data = {
        ...whole,
        known: relays.length,
        caught_up: relays.filter(({ caughtUp }) => caughtUp).length,
        failing: relays.filter(({ failingSince }) => failingSince !== null).length,
        networks: byNetwork(relays),
      };
      return { data, meta: await context.meta({ as_of: asOf }) };
    },
  );
}

function byNetwork(all: RelayTable['relays']): z.output<typeof network>[] {
  const networks = [...new Set(all.map((relay) => relay.network))].sort();
  return networks.map((name) => {
    const relays = all.filter((relay) => relay.network === name);
    const { relays: visited, complete, share } = coverageOf(relays);
    const up = relays.filter(({ state }) => state === 'up').length;
    return { network: name, relays: relays.length, up, visited, complete, share };
  });
}
