/* Texts for users in the language of the page: times, durations and error messages. */

const texts = JSON.parse(document.getElementById("texts").textContent);
const language = document.documentElement.lang;
const FULL = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "short" });
const DAY = new Intl.DateTimeFormat(language, { dateStyle: "medium" });
const RELATIVE = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
const WAIT = new Intl.RelativeTimeFormat(language);
const STEPS = [
  ["minute", 60, 60],
  ["hour", 3600, 24],
  ["day", 86_400, 14],
  ["week", 604_800, 9],
  ["month", 2_629_800, 12],
  ["year", 31_557_600, Infinity],
];

/** Return a text by its key, such as "devices.title". Replaces names in braces by `values`. */
export function text(key, values = {}) {
  const [view, name] = key.split(".");
  return texts[view][name].replace(/\{(\w+)\}/g, (_, each) => values[each] ?? document.body.dataset[each]);
}

/** Format how long ago `date` was, in whole units. A date in the future, by a wrong clock, is "now". */
export function formatAge(date, now) {
  const seconds = (now - date) / 1000;
  if (seconds < 45) return RELATIVE.format(0, "second");
  const [unit, length] = STEPS.find(([, each, most]) => Math.round(seconds / each) < most);
  return RELATIVE.format(-Math.max(1, Math.round(seconds / length)), unit);
}

/** Create a time element that shows `shown`, and the exact time as its title. */
export function timeElement(date, shown) {
  const element = document.createElement("time");
  element.dateTime = date.toISOString();
  element.title = FULL.format(date);
  element.textContent = shown;
  return element;
}

export function formatDay(date) {
  return DAY.format(date);
}

/** Format the time until something: "in 30 seconds". */
export function formatWait(seconds) {
  if (seconds < 120) return WAIT.format(seconds, "second");
  return seconds < 7200 ? WAIT.format(Math.ceil(seconds / 60), "minute") : WAIT.format(Math.ceil(seconds / 3600), "hour");
}

/** Return the message of an error for users. What the service writes is for developers, and is not shown. */
export function messageFor(error) {
  if (isUnreachable(error)) {
    // When a response is lost, the change may have been made. Offline, it cannot have been.
    const unchanged = navigator.onLine ? "" : `${text("errors.unchanged")} `;
    return `${unreachableMessage(error)} ${unchanged}${text("errors.retry")}`;
  }
  return text(`errors.${error.code in texts.errors ? error.code : "internal_error"}`);
}

/** Whether the service could not be reached, or cannot respond at present. */
export function isUnreachable(error) {
  return [0, 502, 503, 504].includes(error.status);
}

export function unreachableMessage({ status } = {}) {
  if (!navigator.onLine) return text("errors.offline");
  return text(status === 503 ? "errors.busy" : "errors.unreachable");
}
