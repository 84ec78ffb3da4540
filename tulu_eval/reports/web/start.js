"use strict";
// Puts the page together.

(function () {
  const { make, fill } = page;
  const { board, runs, problems } = page.data;
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", isDark() ? "Use light colours" : "Use dark colours"); };
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
  dark.addEventListener("change", label);
  label();

  const measured = new Set(runs.map((run) => run.model)).size;
  const published = board.filter((row) => row.published).length;
  const newest = runs.map((run) => run.ended).sort().pop();
  fill("lead",
    `${page.count(published, "published number")} of the Tulu 2 and 2.5 suite, and ${page.count(runs.length, "run")} of ${page.count(measured, "model")} beside them`,
    newest ? `, the newest of ${newest.slice(0, 10)}.` : ".", problems.length ? ` ${page.count(problems.length, "run folder")} could not be used.` : "");
  fill("foot", make("p", {}, `Made by tulu-eval ${page.data.version}. This file is complete: it loads nothing and sends nothing. Drawn with Observable Plot and D3 (ISC licence).`));

  page.leftOut();
  page.board.start();
  page.runs();
  page.lineage();
  page.contradictions();
  page.training();
  page.samples.start();
  performance.mark("tulu-eval-ready");
})();
