// The linter of the studio's page and of its tests: npm run lint.
import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["**/node_modules/"] },
  js.configs.recommended,
  {
    rules: {
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-empty": ["error", { allowEmptyCatch: true }],
      "no-unused-vars": ["error", { ignoreRestSiblings: true, argsIgnorePattern: "^_" }],
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": ["error", { destructuring: "all" }],
      "prefer-template": "error",
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
  },
  { files: ["src/music_generator/studio/static/**/*.js"], languageOptions: { globals: globals.browser } },
  { files: ["demo/*.js"], languageOptions: { globals: globals.browser } },
  { files: ["demo/engine/**"], languageOptions: { globals: globals.worker } },
  { files: ["demo/service_worker.js"], languageOptions: { globals: globals.serviceworker } },
  { files: ["**/audio/resonance.js"], languageOptions: { globals: globals.audioWorklet } },
  { files: ["tests/js/**"], languageOptions: { globals: { ...globals["shared-node-browser"], ...globals.node } } },
];
