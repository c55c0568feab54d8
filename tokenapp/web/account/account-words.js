/* What people are told: times as they speak of them, waits, and what went wrong with what to do about it. */

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

/** Say how long ago `date` was, in whole units. A moment that is still to come, by a clock that is off, is now. */
export function ago(date, now) {
  const seconds = (now - date) / 1000;
  if (seconds < 45) return "just now";
  const [unit, length] = STEPS.find(([, each, most]) => Math.round(seconds / each) < most);
  return RELATIVE.format(-Math.max(1, Math.round(seconds / length)), unit);
}

/** Make a time element: `text` to be read, the exact time for those who ask. */
export function timeElement(date, text) {
  const element = document.createElement("time");
  element.dateTime = date.toISOString();
  element.title = FULL.format(date);
  element.textContent = text;
  return element;
}

export function dayOf(date) {
  return DAY.format(date);
}

/** Say a wait in words: "1 minute 5 seconds". */
export function waitOf(seconds) {
  const counted = (number, unit) => `${number} ${unit}${number === 1 ? "" : "s"}`;
  if (seconds < 60) return counted(seconds, "second");
  if (seconds >= 3600) return counted(Math.ceil(seconds / 3600), "hour");
  const rest = seconds % 60;
  return counted(Math.floor(seconds / 60), "minute") + (rest ? ` ${counted(rest, "second")}` : "");
}

const SENTENCES = {
  invalid_credentials: "The user name or the password is wrong. Check both and try again.",
  session_not_found: "That device is signed out already.",
  internal_error: "Something went wrong on our side. Please try again in a moment.",
  cross_site_request:
    "The service does not know the address of this page as its own. Open the page at the service's official address.",
};

/** Say what went wrong, and what to do. Of errors, only the service's own are in words for people. */
export function sentenceOf(error) {
  // Where an answer was lost nobody can say whether it was done; what was asked while offline was not.
  if (isAway(error)) return `${awaySentence(error)} ${navigator.onLine ? "Please" : "Nothing was changed: please"} try again.`;
  const said = error instanceof ApiError && error.message;
  return SENTENCES[error.code] ?? (said || SENTENCES.internal_error);
}

/** Whether nobody could be asked, or whoever was asked could not answer for the moment. */
export function isAway(error) {
  return [0, 502, 503, 504].includes(error.status);
}

export function awaySentence({ status } = {}) {
  if (!navigator.onLine) return "You are offline.";
  return status === 503 ? "The service is busy." : "The service cannot be reached.";
}
