/** The page in Chromium: every view, what it asks for, and what hostile events do to it. */
import { mkdirSync } from 'node:fs';
import { describe, expect, test as plain } from 'vitest';
import { missingBrowser, pageTest as test } from '../../fixtures/page-test.ts';

const SCREENSHOTS = process.env.PAGE_SCREENSHOTS;

plain.runIf(missingBrowser)(`(${missingBrowser})`, () => {
  expect(missingBrowser).toBeTruthy();
});

describe.skipIf(missingBrowser)('screens', () => {
  test('all', { timeout: 300_000 }, async ({ site, open }) => {
    const { page, errors, go } = await open();
    const views = {
      overview: '/',
      relays: '/relays',
      relay: `/relay?url=${encodeURIComponent(site.relay)}`,
      events: '/events',
      event: `/event?id=${site.note.id}`,
      hostile: `/event?id=${site.hostile.markup.id}`,
      author: `/author?pubkey=${site.author}`,
      figures: '/figures',
      search: '/search?q=%3Cb%3E',
    };
    if (SCREENSHOTS) mkdirSync(SCREENSHOTS, { recursive: true });
    for (const [name, path] of Object.entries(views))
      for (const [size, width, scheme] of [
        ['desktop', 1280, 'light'],
        ['phone', 390, 'dark'],
        ['dark', 1280, 'dark'],
      ] as const) {
        await page.setViewportSize({ width, height: 900 });
        await page.emulateMedia({ colorScheme: scheme });
        await go(path);
        if (SCREENSHOTS)
          await page.screenshot({ path: `${SCREENSHOTS}/${name}-${size}.png`, fullPage: true });
      }
    expect(errors).toEqual([]);
  });
});
