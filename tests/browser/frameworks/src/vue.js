import { createPinia, defineStore } from "pinia";
import { createApp } from "vue";
import App from "./App.vue";
import { client } from "./client.js";

const useStore = defineStore("session", { state: () => ({ client }) });
const app = createApp(App).use(createPinia());
app.mount("#app");
window.store = useStore();
await client.restore();
