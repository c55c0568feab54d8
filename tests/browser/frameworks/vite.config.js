import { svelte } from "@sveltejs/vite-plugin-svelte";
import vue from "@vitejs/plugin-vue";

export default {
  appType: "mpa",
  plugins: [svelte(), vue()],
  build: { target: "es2022", minify: false, rollupOptions: { input: ["react", "vue", "svelte", "axios"].map((name) => `${name}.html`) } },
};
