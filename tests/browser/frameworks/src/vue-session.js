import { onScopeDispose, shallowRef } from "vue";
import { client } from "./client.js";

export function useSession() {
  const user = shallowRef(client.user);
  const state = shallowRef(client.state);
  onScopeDispose(
    client.onChange(() => {
      user.value = client.user;
      state.value = client.state;
    }),
  );
  return { user, state };
}
