/* Texts for users in the language of the page: times, durations and error messages. */

const TIMEOUT = 8000;
const root = document.documentElement;
const original = { language: root.lang, texts: JSON.parse(document.getElementById("texts").textContent) };
const { languages, rtl } = document.body.dataset;
let { texts } = original;
let formats = formatsOf(root.lang);
const STEPS = [
  ["minute", 60, 60],
  ["hour", 3600, 24],
  ["day", 86_400, 14],
  ["week", 604_800, 9],
  ["month", 2_629_800, 12],
  ["year", 31_557_600, Infinity],
];

/** Change the language of the page to that of `locale`, or back to the one that it came in. */
export async function setLanguage(locale) {
  const known = languages.split(" ").find((each) => each === locale?.toLowerCase().split(/[-_]/)[0]);
  const language = known ?? original.language;
  if (language === root.lang) return;
  // Without the file, the page stays as it is: users can read it in the language of their browser.
  texts = language === original.language ? original.texts : await load(language).catch(() => texts);
  root.lang = texts.page.language;
  root.dir = rtl.split(" ").includes(root.lang) ? "rtl" : "ltr";
  formats = formatsOf(root.lang);
  translate(document);
}

/** Put the texts into the elements of `part` that name one. The service does the same in the page that it sends. */
export function translate(part) {
  for (const each of part.querySelectorAll("[data-text]")) each.textContent = text(each.dataset.text);
  for (const each of part.querySelectorAll("[data-label]")) each.setAttribute("aria-label", text(each.dataset.label));
}

/** Return a text by its key, such as "devices.hint". Replaces names in braces by `values`. */
export function text(key, values = {}) {
  const [view, name] = key.split(".");
  return texts[view][name].replace(/\{(\w+)\}/g, (_, each) => values[each] ?? document.body.dataset[each]);
}

/** Format how long ago `date` was, in whole units. A date in the future, by a wrong clock, is "now". */
export function formatAge(date, now) {
  const seconds = (now - date) / 1000;
  if (seconds < 45) return formats.relative.format(0, "second");
  const [unit, length] = STEPS.find(([, each, most]) => Math.round(seconds / each) < most);
  return formats.relative.format(-Math.max(1, Math.round(seconds / length)), unit);
}

/** Create a time element that shows `shown`, and the exact time as its title. */
export function timeElement(date, shown) {
  const element = document.createElement("time");
  element.dateTime = date.toISOString();
  element.title = formats.full.format(date);
  element.textContent = shown;
  return element;
}

export function formatDay(date) {
  return formats.day.format(date);
}

/** Format the time until something: "in 30 seconds". */
export function formatWait(seconds) {
  if (seconds < 120) return formats.wait.format(seconds, "second");
  const hours = Math.ceil(seconds / 3600);
  return hours < 2 ? formats.wait.format(Math.ceil(seconds / 60), "minute") : formats.wait.format(hours, "hour");
}

/** Return the message of an error for users. What the service writes is for developers, and is not shown. */
export function messageFor(error) {
  if (isUnreachable(error)) {
    // When a response is lost, the change may have been made. Offline, it cannot have been.
    const unchanged = navigator.onLine ? "" : `${text("errors.unchanged")} `;
    return `${unreachableMessage(error)} ${unchanged}${text("errors.retry")}`;
  }
  return text(`errors.${Object.hasOwn(texts.errors, error.code) ? error.code : "internal_error"}`);
}

/** Whether the service could not be reached, or cannot respond at present. */
export function isUnreachable(error) {
  return [0, 502, 503, 504].includes(error.status);
}

export function unreachableMessage({ status } = {}) {
  if (!navigator.onLine) return text("errors.offline");
  return text(status === 503 ? "errors.busy" : "errors.unreachable");
}

async function load(language) {
  const signal = AbortSignal.timeout(TIMEOUT);
  const response = await fetch(new URL(`texts-${language}.json`, import.meta.url), { signal });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response.json();
}

/** Return the formats of a language, as the browser's user has them if it is among theirs: 31.12.2026 or 2026-12-31. */
function formatsOf(language) {
  try {
    const preferred = navigator.languages.find((each) => each.toLowerCase().split("-")[0] === language);
    return formatsFor(preferred ?? language);
  } catch {
    return formatsFor(language); // there is no list, or it has a name that the browser itself rejects: `en-US@posix`
  }
}

function formatsFor(locale) {
  return {
    full: new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "short" }),
    day: new Intl.DateTimeFormat(locale, { dateStyle: "medium" }),
    relative: new Intl.RelativeTimeFormat(locale, { numeric: "auto" }),
    wait: new Intl.RelativeTimeFormat(locale),
  };
}
