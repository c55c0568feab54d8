/* Texts for users: times, durations, and error messages. */

import { ApiError } from "./tokenapp.js";

const LOCALE = navigator.languages.find((each) => /^en\b/i.test(each)) ?? "en-GB";
const FULL = new Intl.DateTimeFormat(LOCALE, { dateStyle: "full", timeStyle: "short" });
const DAY = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium" });
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS = [
  ["minute", 60, 60],
  ["hour", 3600, 24],
  ["day", 86_400, 14],
  ["week", 604_800, 9],
  ["month", 2_629_800, 12],
  ["year", 31_557_600, Infinity],
];

/** Format how long ago `date` was, in whole units. A date in the future, by a wrong clock, is "just now". */
export function formatAge(date, now) {
  const seconds = (now - date) / 1000;
  if (seconds < 45) return "just now";
  const [unit, length] = STEPS.find(([, each, most]) => Math.round(seconds / each) < most);
  return RELATIVE.format(-Math.max(1, Math.round(seconds / length)), unit);
}

/** Create a time element that shows `text`, and the exact time as its title. */
export function timeElement(date, text) {
  const element = document.createElement("time");
  element.dateTime = date.toISOString();
  element.title = FULL.format(date);
  element.textContent = text;
  return element;
}

export function formatDay(date) {
  return DAY.format(date);
}

/** Format a duration: "1 minute 5 seconds". */
export function formatWait(seconds) {
  const counted = (number, unit) => `${number} ${unit}${number === 1 ? "" : "s"}`;
  if (seconds < 60) return counted(seconds, "second");
  if (seconds >= 3600) return counted(Math.ceil(seconds / 3600), "hour");
  const rest = seconds % 60;
  return counted(Math.floor(seconds / 60), "minute") + (rest ? ` ${counted(rest, "second")}` : "");
}

const MESSAGES = {
  invalid_credentials: "The user name or the password is wrong. Check both and try again.",
  session_not_found: "That device is already signed out.",
  internal_error: "Something went wrong on our side. Please try again in a moment.",
  cross_site_request:
    "The service does not accept requests from the address of this page. Open the page at its official address.",
};

/** Return the message of an error for users. Only errors of the service have a message of their own. */
export function messageFor(error) {
  if (isUnreachable(error)) {
    // When a response is lost, the change may have been made. Offline, it cannot have been.
    const unchanged = navigator.onLine ? "" : "Nothing was changed. ";
    return `${unreachableMessage(error)} ${unchanged}Please try again.`;
  }
  const message = error instanceof ApiError && error.code !== "unknown" && error.message;
  return MESSAGES[error.code] ?? (message || MESSAGES.internal_error);
}

/** Whether the service could not be reached, or cannot respond at present. */
export function isUnreachable(error) {
  return [0, 502, 503, 504].includes(error.status);
}

export function unreachableMessage({ status } = {}) {
  if (!navigator.onLine) return "You are offline.";
  return status === 503 ? "The service is busy." : "The service cannot be reached.";
}
