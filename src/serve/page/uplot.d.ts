/** `uplot.js` is served from the npm package (src/serve/api/routes/page.ts). */
export { default } from 'uplot';
