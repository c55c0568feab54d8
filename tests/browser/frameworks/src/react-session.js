import { useSyncExternalStore } from "react";
import { client } from "./client.js";

export const useUser = () => useSyncExternalStore(client.onChange, () => client.user, () => null);
export const useAuthState = () => useSyncExternalStore(client.onChange, () => client.state, () => "unknown");
