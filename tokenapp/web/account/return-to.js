/* The page that the user came from: `/account?return_to=URL`. */

const FORM = /^(\/|https?:\/\/)/;
const AGAIN = 10_000;

/** Return that URL if it leads to this service or to an allowed origin, and null otherwise.
 *
 * The service has compared the text with the allowed origins, and names the one that it begins with. This compares what
 * the browser would really go to, because only the browser knows how it reads a URL.
 */
export function readReturnUrl() {
  const wanted = new URLSearchParams(location.search).get("return_to");
  const url = FORM.test(wanted ?? "") && parse(wanted);
  if (!url) return null;
  const isWebPage = ["http:", "https:"].includes(url.protocol) && !url.username && !url.password;
  const isAllowed = [location.origin, document.body.dataset.returnOrigin].includes(url.origin);
  return isWebPage && isAllowed ? url : null;
}

/** Whether the page went to `url` by itself a moment ago. Then something there has sent the user back. */
export function wasJustThere(url) {
  try {
    const [last, at] = JSON.parse(sessionStorage.getItem("returned") ?? "[]");
    sessionStorage.setItem("returned", JSON.stringify([url.href, Date.now()]));
    return last === url.href && Math.abs(Date.now() - at) < AGAIN;
  } catch {
    return false; // the browser denies storage
  }
}

function parse(wanted) {
  try {
    return new URL(wanted, location.href);
  } catch {
    return null;
  }
}
