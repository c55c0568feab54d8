/* Requests to the service for the signed-in user. */

import { ApiError } from "../client/tokenapp.js";

const TIMEOUT = 8000;
let clockAhead = 0;

/** The user changed during a request: the response belongs to another user and must not be shown. */
export class UserChanged extends Error {
  isCancelled = true;
}

/** Return the time by the service's clock, from its last response. The clock of this machine may be wrong by hours. */
export function serviceTime() {
  return Date.now() - clockAhead;
}

/** Send a request; return the body of the response, or null if it has none. Throws ApiError or UserChanged. */
export async function call(client, method, path, body) {
  const owner = client.user?.id;
  const response = await request(client.fetch, client.baseUrl + path, method, body);
  const result = await response.json().catch(() => null);
  if (client.user?.id !== owner) throw new UserChanged();
  return resultOf(response, result);
}

/** Send a request that belongs to no user, such as one with the token of a link, as `call` does. */
export async function callAsNobody(client, path, body) {
  const response = await request(fetch, client.baseUrl + path, "POST", body);
  return resultOf(response, await response.json().catch(() => null));
}

function resultOf(response, result) {
  if (!response.ok) throw errorFrom(response, result);
  // Other successful responses are incomplete or come from something else, such as a captive portal.
  if (result === null && ![202, 204].includes(response.status)) throw connectionError();
  clockAhead = Date.now() - (Date.parse(response.headers.get("Date")) || Date.now());
  return result;
}

function errorFrom(response, body) {
  const wait = Number(response.headers.get("Retry-After")) || null;
  return new ApiError(response.status, body?.code ?? "unknown", body?.message, wait);
}

function connectionError(cause) {
  return new ApiError(0, "network_error", "The service cannot be reached.", null, { cause });
}

async function request(send, url, method, body) {
  const content = body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  try {
    const signal = AbortSignal.timeout(TIMEOUT);
    return await send(url, { method, cache: "no-store", signal, ...content });
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw connectionError(error);
  }
}
