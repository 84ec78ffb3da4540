"use strict";
// Puts the page together.

(function () {
  const { make, fill } = page;
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours"); };
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
  dark.addEventListener("change", label);
  label();

  fill("foot", make("p", {}, `Made by tulu-eval ${page.data.version}. This file is complete: it loads nothing and sends nothing. Drawn with Observable Plot and D3 (ISC licence).`));

  page.lead();
  page.leftOut();
  page.board.start();
  page.runs();
  page.lineage();
  page.contradictions();
  page.training();
  page.samples.start();
  performance.mark("tulu-eval-ready");
})();
