/** The page in Chromium: every view by its address, what it asks for, and how it is used. */
import axe from 'axe-core';
import { noteEncode, npubEncode } from 'nostr-tools/nip19';
import { describe, expect, test as plain } from 'vitest';
import { screens, viewsOf } from '../../fixtures/page-screens.ts';
import { missingBrowser, type OpenPage, pageTest as test } from '../../fixtures/page-test.ts';

const GRAVE = ['serious', 'critical'];

plain.runIf(missingBrowser)(
  '(Chromium is not installed: the tests of the page are skipped)',
  () => {
    expect(missingBrowser).toBeTruthy();
  },
);

/** Serious faults of the view for people who do not see or use it as most do, a line each. */
async function faultsOf({ page }: OpenPage): Promise<string[]> {
  const found = await page.evaluate(() =>
    (globalThis as unknown as { axe: typeof axe }).axe.run({ resultTypes: ['violations'] }),
  );
  const grave = found.violations.filter(({ impact }) => GRAVE.includes(impact ?? ''));
  return grave.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 200)}`));
}

describe.skipIf(missingBrowser)('every view', () => {
  test('shows itself without an error, asks nobody else, and has no serious fault of access', {
    timeout: 300_000,
  }, async ({ site, open }) => {
    const opened = await open();
    const { page, requests, errors, go, text } = opened;
    await page.addInitScript({ content: axe.source });
    const titles = new Set<string>();
    for (const [name, { path, shows }] of Object.entries(viewsOf(site)))
      for (const { size, viewport, colorScheme } of screens) {
        await page.setViewportSize(viewport);
        await page.emulateMedia({ colorScheme });
        await go(path);
        for (const part of shows) expect(await text(), `${name}, ${size}`).toContain(part);
        expect(await faultsOf(opened), `${name}, ${size}`).toEqual([]);
        const width = await page.evaluate('document.documentElement.scrollWidth');
        expect(width, `${name}, ${size}: nothing sticks out`).toBeLessThanOrEqual(viewport.width);
        titles.add(await page.title());
        const folder = process.env.PAGE_SCREENSHOTS;
        if (folder)
          await page.screenshot({ path: `${folder}/${name}-${size}.png`, fullPage: true });
      }
    expect(titles.size).toBe(Object.keys(viewsOf(site)).length);
    expect(errors).toEqual([]);
    expect(requests.length).toBeGreaterThan(100);
    expect(requests.filter((url) => !url.startsWith(`${site.origin}/`))).toEqual([]);
  });

  test('is one document with a strict policy, its files kept for good', async ({ site }) => {
    const first = await fetch(`${site.origin}/`);
    const policy = first.headers.get('content-security-policy') ?? '';
    expect(policy).toMatch(/^default-src 'none';script-src 'self';style-src 'self';/);
    expect(policy).toContain("require-trusted-types-for 'script'");
    expect(policy).not.toMatch(/unsafe|data:|\*|http/);
    const html = await first.text();
    expect(await (await fetch(`${site.origin}/relay?url=x`)).text()).toBe(html);
    expect(html).not.toMatch(/<script(?![^>]* src="\/page\/)|style="|https?:/);
    const etag = first.headers.get('etag') ?? '';
    const again = await fetch(`${site.origin}/`, { headers: { 'if-none-match': etag } });
    expect(again.status).toBe(304);
    for (const [, path] of html.matchAll(/(?:src|href)="(\/page\/[^"]+)"/g)) {
      const file = await fetch(`${site.origin}${path}`);
      expect(file.status, path).toBe(200);
      expect(file.headers.get('cache-control')).toBe('public, max-age=31536000, immutable');
    }
    for (const path of ['/page/', '/page/x/main.js', '/page/../app.ts', '/page/%2e%2e/app.js'])
      expect((await fetch(`${site.origin}${path}`)).status, path).toBe(404);
  });
});

describe.skipIf(missingBrowser)('the views of the archive', () => {
  test('sort and filter relays by addresses that can be passed on', async ({ open }) => {
    const { page, go, loaded, text } = await open();
    const relays = () => page.locator('main tbody th').allInnerTexts();
    await go('/relays?state=up');
    expect(await text()).not.toContain('delta.example.com');
    await page.getByRole('link', { name: 'Answers in' }).click();
    await page.waitForURL(/sort=rtt_read/);
    await loaded();
    expect((await relays())[0]).toContain('alpha.example.com');
    await page.getByRole('link', { name: 'Answers in' }).click();
    await page.waitForURL(/desc=true/);
    await loaded();
    expect(page.url()).toContain('state=up');
    expect((await relays())[0]).toContain('relay-14.example.com');
    expect(await page.locator('th[aria-sort]').getAttribute('aria-sort')).toBe('descending');
    await page.getByLabel('Part of the URL').fill('ZETA');
    await page.getByRole('button', { name: 'Filter' }).click();
    await page.waitForURL(/search=ZETA/);
    await loaded();
    expect(await relays()).toHaveLength(1);
    await page.goBack();
    await loaded();
    expect((await relays())[0]).toContain('relay-14.example.com');
  });

  test('filter events by a form, page through them, and keep both in the address', async ({
    site,
    open,
  }) => {
    const { page, go, loaded } = await open();
    const ids = () =>
      page
        .locator('main tbody th a')
        .evaluateAll((links) =>
          links.map((link) =>
            new URL((link as unknown as { href: string }).href).searchParams.get('id'),
          ),
        );
    await go('/events');
    await page.getByLabel('Kinds').fill('1, 7');
    await page.getByLabel('Until, UTC').fill('2100-01-01 00:00');
    await page.getByRole('button', { name: 'Search' }).click();
    await page.waitForURL(/kinds=1/);
    await loaded();
    expect(page.url()).not.toContain('authors=');
    const wanted = site.events.filter(({ kind }) => kind === 1 || kind === 7).map(({ id }) => id);
    expect(await ids()).toEqual(wanted.slice(0, 50));
    await page.getByRole('link', { name: 'Next page' }).click();
    await page.waitForURL(/cursor=/);
    await loaded();
    expect(await ids()).toEqual(wanted.slice(50, 100));
    const copied = page.url();
    await go('/');
    await page.goto(copied);
    await loaded();
    expect(await ids()).toEqual(wanted.slice(50, 100));
  });

  test('show times in UTC, wherever the reader is', async ({ site, open }) => {
    const { go, text } = await open(); // in Asia/Kolkata
    await go(`/event?id=${site.note.id}`);
    const utc = new Date(site.note.created_at * 1000).toISOString();
    expect(await text()).toContain(utc.replace('T', ' ').replace('.000Z', ' UTC'));
  });

  test('name for each figure a CSV, and SQL that gives the same columns', async ({
    site,
    open,
  }) => {
    const { page, go } = await open();
    await go('/figures');
    const queries = await page.locator('.sources pre').allTextContents();
    const links = await page
      .locator('.sources > a')
      .evaluateAll((all) => all.map((link) => (link as unknown as { href: string }).href));
    expect(queries.length).toBeGreaterThan(9);
    expect(links).toHaveLength(queries.length);
    for (const [place, sql] of queries.entries()) {
      const [head = '', ...rows] = (await (await fetch(links[place] as string)).text()).split(
        '\r\n',
      );
      const found = await site.database.query(sql);
      expect(found.length, sql).toBe(rows.filter(Boolean).length);
      if (found[0]) expect(Object.keys(found[0]), sql).toEqual(head.split(','));
    }
  });
});

describe.skipIf(missingBrowser)('by keyboard', () => {
  test('/ goes to the search, which leads to what its text means', async ({ site, open }) => {
    const { page, go, loaded, text } = await open();
    await go('/');
    for (const [query, target, part] of [
      [npubEncode(site.author), /\/author\?/, site.author],
      [noteEncode(site.note.id), /\/event\?/, site.note.id],
      [site.note.id, /\/event\?/, site.note.id],
      [site.author, /\/author\?/, site.author],
      [site.relay, /\/relay\?/, site.relay],
      ['alpha', /\/relays\?search=alpha/, 'alpha.example.com'],
      ['what is this', /\/search\?/, 'Nothing is found'],
    ] as const) {
      await page.keyboard.press('/');
      await page.keyboard.type(query);
      await page.keyboard.press('Enter');
      await page.waitForURL(target);
      await loaded();
      expect(await text(), query).toContain(part);
    }
  });

  test('the first Tab skips to the content, and arrows read a plot', async ({ open }) => {
    const { page, go } = await open();
    await go('/');
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to the content');
    await page.keyboard.press('Enter');
    expect(await page.evaluate('document.activeElement.id')).toBe('main');
    const reading = page.locator('.reading').first();
    const latest = await reading.innerText();
    await page.locator('.plot').first().focus();
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowLeft');
    const earlier = await reading.innerText();
    expect(earlier.slice(0, 10) < latest.slice(0, 10), `${earlier} before ${latest}`).toBe(true);
  });

  test('the colours are chosen by a button and stay', async ({ open }) => {
    const { page, go } = await open();
    await page.emulateMedia({ colorScheme: 'light' });
    await go('/');
    const ground = () => page.evaluate('getComputedStyle(document.body).backgroundColor');
    const light = await ground();
    const button = page.getByRole('button', { name: /^Colours/ });
    await button.click();
    expect(await ground()).toBe(light);
    await button.click();
    const dark = await ground();
    expect(dark).not.toBe(light);
    await go('/relays');
    expect(await ground()).toBe(dark);
    await button.click();
    expect(await ground()).toBe(light);
  });
});

describe.skipIf(missingBrowser)('without an answer', () => {
  test('a view says why, and tries again', async ({ site, open }) => {
    const { page, go, text } = await open();
    const detail = 'The database does not answer: try again later.';
    await page.route('**/v1/relays?*', (route) =>
      route.fulfill({
        ...{
          status: 503,
          contentType: 'application/problem+json',
          headers: { 'retry-after': '5' },
        },
        body: JSON.stringify({ type: '/docs#unavailable', title: '', status: 503, detail }),
      }),
    );
    await go('/relays');
    expect(await page.getByRole('alert').innerText()).toContain(`${detail} Try again in 5 s.`);
    await page.unroute('**/v1/relays?*');
    await page.getByRole('button', { name: 'Try again' }).click();
    await page.getByText('alpha.example.com').waitFor();
    await page.route('**/v1/status', (route) => route.abort());
    await go('/');
    expect(await page.getByRole('alert').first().innerText()).toContain('does not answer');
    expect(await text()).toContain('Events a day by kind');
    expect(page.url()).toBe(`${site.origin}/`);
  });

  test.for([
    ['/events?kinds=65000', 'No archived event matches.'],
    ['/events?authors=nobody', 'authors: must be 64 hex digits'],
    ['/events?since=yesterday', 'since: must be a whole number'],
    ['/relays?state=down&search=alpha', 'No relay is like that.'],
    ['/relay?url=wss%3A%2F%2Funknown.example.com', 'The archive does not know this relay'],
    ['/relay', 'No relay is named.'],
    [`/event?id=${'0'.repeat(64)}`, 'The archive holds no event with this id.'],
    ['/event?id=%3Cb%3E', 'must be 64 hex digits'],
    [`/author?pubkey=${'0'.repeat(64)}`, 'Nothing of this author is counted'],
  ] as const)('%s: %s', async ([path, part], { open }) => {
    const { go, text } = await open();
    await go(path);
    expect(await text()).toContain(part);
  });
});
