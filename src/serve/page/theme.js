/** Light and dark: as the system has it, unless the reader chooses. */

const NAME = 'theme';
const CHOICES = /** @type {const} */ (['system', 'light', 'dark']);
const SIGNS = { system: '◐', light: '☀', dark: '☾' };

/** @param {HTMLElement} button goes to the next choice */
export function startTheme(button) {
  let choice = stored();
  apply(button, choice);
  button.addEventListener('click', () => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length] ?? 'system';
    try {
      localStorage.setItem(NAME, choice);
    } catch {
      // a browser that stores nothing keeps the choice until the next page
    }
    apply(button, choice);
    document.dispatchEvent(new Event('theme'));
  });
}

/** @returns {typeof CHOICES[number]} */
function stored() {
  try {
    return CHOICES.find((choice) => choice === localStorage.getItem(NAME)) ?? 'system';
  } catch {
    return 'system';
  }
}

/**
 * @param {HTMLElement} button
 * @param {typeof CHOICES[number]} choice
 */
function apply(button, choice) {
  document.documentElement.dataset.theme = choice;
  button.textContent = SIGNS[choice];
  button.setAttribute('aria-label', `Colours: ${choice === 'system' ? 'as the system' : choice}`);
}

/**
 * A colour of the style sheet, as it is now.
 *
 * @param {string} name such as `--text`
 */
export function colour(name) {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/** @param {() => void} listener called when the colours change */
export function watchTheme(listener) {
  document.addEventListener('theme', listener);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', listener);
}
