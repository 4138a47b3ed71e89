// SPDX-License-Identifier: MIT OR Apache-2.0
// Opens a run's report.html in headless Chromium as readers do, wide and narrow, light and
// dark, and on paper: it renders without a script error, fetches nothing, nothing runs off
// the side, every link resolves, and axe finds nothing that is hard to read.
// Usage: node page.mjs REPORT.html SCREENSHOTS-DIR; LINKS=inside where the run is not there.
import { existsSync, mkdirSync, readFileSync } from 'node:fs';

import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const [file, shots] = process.argv.slice(2).map((path) => resolve(path));
const here = dirname(fileURLToPath(import.meta.url));
const axe = readFileSync(join(here, 'node_modules/axe-core/axe.min.js'), 'utf8');
const faults = [];
mkdirSync(shots, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
let charts = 0;
for (const colorScheme of ['light', 'dark']) {
  for (const width of [400, 1400]) {
    const at = `${colorScheme}, ${width} px`;
    const page = await browser.newPage({ colorScheme, viewport: { width, height: 900 } });
    const fault = (text) => faults.push(`${at}: ${text}`);
    page.on('pageerror', (error) => fault(`script error: ${error.message}`));
    page.on('console', (said) => said.type() === 'error' && fault(`console: ${said.text()}`));
    page.on('request', (asked) => {
      if (asked.url() !== pathToFileURL(file).href) fault(`fetches ${asked.url()}`);
    });
    await page.goto(pathToFileURL(file).href);
    const wide = await page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth);
    if (wide > 0) fault(`${wide} px run off the side`);
    // Rows and logs are folded; what is in them is looked at, too.
    await page.evaluate(() => document.querySelectorAll('details').forEach((d) => { d.open = true; }));
    const links = await page.evaluate(() => [...document.querySelectorAll('a[href]')]
      .map((a) => new URL(a.getAttribute('href'), document.baseURI).href));
    for (const href of new Set(links)) {
      const url = new URL(href);
      if (url.protocol !== 'file:') continue;
      url.search = '';
      const anchor = decodeURIComponent(url.hash.slice(1));
      url.hash = '';
      const path = fileURLToPath(url);
      if (path !== file && process.env.LINKS === 'inside') continue;
      if (!existsSync(path)) fault(`a link to ${path}, which is not there`);
      const known = (id) => document.getElementById(id) !== null;
      if (path === file && anchor && !(await page.evaluate(known, anchor))) {
        fault(`a link to #${anchor}, which is not there`);
      }
    }
    await page.evaluate(axe);
    const found = await page.evaluate(() => globalThis.axe.run({
      runOnly: ['color-contrast', 'duplicate-id', 'image-alt', 'svg-img-alt', 'link-name',
        'document-title', 'html-has-lang', 'td-headers-attr'],
    }));
    for (const { id, nodes } of found.violations) {
      for (const node of nodes.slice(0, 3)) fault(`${id}: ${node.html.slice(0, 120)}`);
    }
    charts = await page.evaluate(() => document.querySelectorAll('svg').length);
    await page.evaluate(() => document.querySelectorAll('details').forEach((d) => { d.open = false; }));
    await page.screenshot({ path: `${shots}/${colorScheme}-${width}.png`, fullPage: true });
    await page.close();
  }
}
const page = await browser.newPage();
await page.goto(pathToFileURL(file).href);
await page.pdf({ path: `${shots}/page.pdf`, format: 'A4' });
await browser.close();
faults.slice(0, 40).forEach((fault) => console.log(`page: ${fault}`));
console.log(`page: ${file}: ${charts} charts, ${faults.length} faults`);
process.exit(faults.length > 0 ? 1 : 0);
