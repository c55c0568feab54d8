/* Calls of the service for whoever is signed in. */

import { ApiError } from "./tokenapp.js";

const PATIENCE = 15_000;
let clockAhead = 0;

/** Whoever asked has signed out since, or was signed out: the answer is nobody else's business. */
export class Over extends Error {
  isOver = true;
}

/** Return the time by the service's clock, as of its last answer: that of this machine may be off by hours. */
export function serviceTime() {
  return Date.now() - clockAhead;
}

/** Call the service; return its answer, or null where it has nothing to say. Throws ApiError or Over. */
export async function call(client, method, path, body) {
  const owner = client.user?.sessionId;
  const response = await ask(client, method, path, body);
  const answer = await response.json().catch(() => null);
  if (client.user?.sessionId !== owner) throw new Over();
  if (!response.ok) throw refusalOf(response, answer);
  // The service answers what it was asked for, or says by a 204 that it has done it: all else is of a hotel's sign-in
  // page, or has broken off.
  if (method === "GET" ? answer === null : response.status !== 204) throw unreached();
  clockAhead = Date.now() - (Date.parse(response.headers.get("Date")) || Date.now());
  return answer;
}

function refusalOf(response, answer) {
  const wait = Number(response.headers.get("Retry-After")) || null;
  return new ApiError(response.status, answer?.code ?? "unknown", answer?.message, wait);
}

function unreached(cause) {
  return new ApiError(0, "network_error", "The service cannot be reached.", null, { cause });
}

async function ask(client, method, path, body) {
  const init = { method, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) };
  if (body) Object.assign(init, { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  try {
    return await client.fetch(path, init);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw unreached(error);
  }
}
