import { createSubscriber } from "svelte/reactivity";
import { client } from "./client.js";

const subscribe = createSubscriber((update) => client.onChange(update));

export const session = {
  get user() {
    subscribe();
    return client.user;
  },
  get state() {
    subscribe();
    return client.state;
  },
};
