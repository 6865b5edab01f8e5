import ts from "typescript-eslint";
import vue from "eslint-plugin-vue";

export default ts.config(
  { ignores: ["dist"] },
  ...ts.configs.strict,
  ...vue.configs["flat/recommended"],
  {
    files: ["**/*.vue"],
    languageOptions: { parserOptions: { parser: ts.parser } },
    rules: {
      // What people type is set as text; there is no second way in.
      "vue/no-v-html": "error",
      "vue/no-v-text-v-html-on-component": "error",
      // A static style attribute may end up in markup, which the content policy refuses.
      "vue/no-static-inline-styles": "error",
      "vue/block-lang": ["error", { script: { lang: "ts" } }],
      "vue/block-order": ["error", { order: ["script", "template", "style"] }],
      // Layout is left to the writer; these would force a line per attribute.
      "vue/max-attributes-per-line": "off",
      "vue/singleline-html-element-content-newline": "off",
      "vue/html-self-closing": ["error", { html: { void: "never", normal: "always", component: "always" }, svg: "always" }],
      "vue/multi-word-component-names": "off",
    },
  },
);
