/** Events that try to be more than text, on every view that shows something of them. */
import { describe, expect } from 'vitest';
import { FOREIGN_HOST, TRAP } from '../../fixtures/hostile-events.ts';
import { missingBrowser, type OpenPage, pageTest as test } from '../../fixtures/page-test.ts';

/** What Chromium says of an answer such as 400 or 404. */
const REFUSED = /^Failed to load resource: the server responded with a status of 4\d\d/;
const VIEWPORT = { width: 1280, height: 900 };

/** What a view must not have, whatever the events on it say. */
async function expectHarmless({ page, requests, errors }: OpenPage, origin: string, name: string) {
  const found = await page.evaluate(
    ([trap, home]) => {
      // biome-ignore lint/suspicious/noExplicitAny: this runs in the browser
      const { document, location } = globalThis as any;
      const all = (selector: string) => [...document.querySelectorAll(selector)];
      return {
        trapped: trap !== undefined && trap in globalThis,
        place: location.origin,
        made: all(
          'main :is(script, img, iframe, object, embed, style, link, base, meta, video, audio)',
        ).length,
        // plots set styles by script, which the policy allows
        handlers: all('main :not(.plot, .plot *, .key i)').filter((one) =>
          one
            .getAttributeNames()
            .some((attribute: string) => /^on|^style$|^srcdoc$/.test(attribute)),
        ).length,
        links: all('a[href], form[action]')
          .map((one) => new URL(one.getAttribute('href') ?? one.getAttribute('action'), location))
          .filter(({ origin: target }) => target !== home)
          .map(String),
        width: document.documentElement.scrollWidth,
        heading: document.querySelector('.top .name').getBoundingClientRect().left,
      };
    },
    [TRAP, origin],
  );
  expect(found, name).toEqual({
    ...{ trapped: false, place: origin, made: 0, handlers: 0, links: [] },
    ...{ width: expect.any(Number), heading: expect.any(Number) },
  });
  expect(found.width, name).toBeLessThanOrEqual(VIEWPORT.width);
  expect(found.heading, `${name}: the header is where it was`).toBeLessThan(200);
  const own = errors.filter((error) => !REFUSED.test(error));
  expect(own, name).toEqual([]);
  expect(
    requests.filter((url) => !url.startsWith(`${origin}/`)),
    name,
  ).toEqual([]);
}

describe.skipIf(missingBrowser)('a hostile event', () => {
  test.for([
    ...['markup', 'profile', 'relayList', 'rightToLeft', 'stacked', 'giant', 'manyTags'],
    ...['article'],
  ] as const)('%s stays text', async (name, { site, open }) => {
    const opened = await open();
    const { page, go } = opened;
    await page.setViewportSize(VIEWPORT);
    const event = site.hostile[name as Exclude<keyof typeof site.hostile, 'author'>];
    await go(`/event?id=${event.id}`);
    if (name === 'markup' || name === 'article')
      expect(await page.locator('pre.content').first().textContent()).toBe(event.content);
    if (name === 'markup')
      expect(await page.getByRole('region', { name: 'Tags', exact: true }).textContent()).toContain(
        '<script>',
      );
    await expectHarmless(opened, site.origin, name);
  });

  test('among others in a list, in a profile, in software and in searches', async ({
    site,
    open,
  }) => {
    const opened = await open();
    const { page, go, text } = opened;
    await page.setViewportSize(VIEWPORT);
    const { author } = site.hostile;
    const markup = encodeURIComponent(
      `<img src=https://${FOREIGN_HOST}/ onerror="window.${TRAP}=1">`,
    );
    for (const [path, part] of [
      [`/events?authors=${author}`, '<img src=x'],
      [`/author?pubkey=${author}`, `javascript:window.${TRAP}=1`],
      ['/relays?search=zeta', '<img src=x'],
      ['/relay?url=wss%3A%2F%2Fzeta.example.com', '⟨202e⟩evil'],
      ['/figures', '⟨202e⟩evil'],
      [`/search?q=${markup}`, FOREIGN_HOST],
      [`/relay?url=${markup}`, 'is not the URL of a relay'],
      [`/events?authors=${markup}`, 'must be 64 hex digits'],
      [`/events?tag.t=${markup}`, 'No archived event matches.'],
    ] as const) {
      await go(path);
      expect(await text(), path).toContain(part);
      await expectHarmless(opened, site.origin, path);
    }
  });

  test('of 400,000 characters is shown in parts', async ({ site, open }) => {
    const { page, go } = await open();
    await go(`/event?id=${site.hostile.giant.id}`);
    const shown = () =>
      page
        .locator('pre.content')
        .first()
        .evaluate((one) => one.textContent?.length);
    expect(await shown()).toBe(20_000);
    await page
      .getByRole('button', { name: /^Show more: 380,000/ })
      .first()
      .click();
    expect(await shown()).toBe(40_000);
  });

  test('does not turn the text around it, nor cover it', async ({ site, open }) => {
    const { page, go, text } = await open();
    await go(`/event?id=${site.hostile.rightToLeft.id}`);
    expect(await text()).toContain('⟨202e⟩⟨2067⟩gnp.exe');
    await go(`/event?id=${site.hostile.stacked.id}`);
    const length = await page
      .locator('pre.content')
      .first()
      .evaluate((one) => one.textContent?.length);
    expect(length).toBeLessThan(40);
  });
});
