import { ApiError, createClient, VERSION } from "tokenapp-browser";
import type { Change, Client, ErrorCode, Options, Reason, SecondStep, State, User } from "tokenapp-browser";

const options: Options = { baseUrl: new URL("https://login.example.com/auth"), origins: ["https://a.example"] };
const client: Client = createClient({ ...options, refresh: "when-used" });
const { signIn, signOut, fetch, getToken, onChange } = client;

export async function use(): Promise<string | null> {
  const result: User | SecondStep = await signIn("alice", "password");
  const user: User = "complete" in result ? (await result.complete("totp", "123456")).user : result;
  const endsAt: number | null = client.sessionEndsAt;
  const response: Response = await fetch(new URL("https://a.example"), { method: "POST" });
  const state: State = client.state;
  await signOut();
  return (await getToken()) ?? `${user.id} ${endsAt} ${response.status} ${state} ${VERSION}`;
}

export function describe(change: Change): string {
  switch (change.reason) {
    case "signed-in":
      return change.user.username;
    case "signed-out":
      return String(change.user satisfies null);
    case "session-ended":
      return change.error?.message ?? "";
    case "session-ending":
      return `${change.user.username} ${new Date(change.endsAt)}`;
  }
}

export function waitOf(error: unknown): number | null {
  if (!(error instanceof ApiError)) return null;
  const code: ErrorCode = error.code;
  return code === "too_many_attempts" || code === "cookies_blocked" ? error.retryAfter : null;
}

export const errors = [new ApiError(0, "timeout"), new ApiError(429, "too_many_attempts", "Wait.", 5, { cause: 1 })];
export const stop: () => void = onChange(({ reason }) => reason satisfies Reason);

// @ts-expect-error -- it may be a second step
export const name: Promise<string> = signIn("alice", "password").then((user) => user.username);
// @ts-expect-error -- it is no code of the service
new ApiError(400, "invalid_credentails", "");
// @ts-expect-error -- a string is no list of origins
createClient({ origins: "https://a.example" });
// @ts-expect-error -- the option is called baseUrl
createClient({ baseURL: "https://login.example.com" });
// @ts-expect-error -- options are checked
createClient({ refresh: "never" });
// @ts-expect-error -- the user is not changed by the page
client.user!.username = "mallory";
// @ts-expect-error -- a change has an error only if the session ended
client.onChange((change) => change.error);
