import { createClient } from "tokenapp-browser";

// One client for the whole application. On a server there is no page whose origin it could use.
export const client = createClient(globalThis.window ? {} : { baseUrl: "https://login.example.com" });
