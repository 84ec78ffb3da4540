"use strict";
// What the page says first: how many published numbers agree with what was measured here, and which do not.

page.VERDICTS = ["inconsistent", "cannot tell", "consistent", "no verdict", "not measured"]; // the worst first

page.verdict = function (row) {
  const [kind, mark] = { consistent: ["good", "✓ "], inconsistent: ["bad", "✕ "], "cannot tell": ["unsure", "? "], "no verdict": ["dull", ""] }[row.verdict.name];
  return page.pill(kind, mark + row.verdict.name);
};

page.lead = function () {
  const { make, fill, one, count, VERDICTS } = page;
  const { board, runs, problems } = page.data;
  const SHOWN = 5;
  const measured = board.filter((row) => row.measured);
  const compared = measured.filter((row) => row.verdict.p !== undefined);
  const found = (name) => compared.filter((row) => row.verdict.name === name).length;

  function headline() {
    if (!measured.length) return "Nothing has been measured yet";
    if (!compared.length) return "No measured number has a published one to compare with";
    const [agree, not, unsure] = ["consistent", "inconsistent", "cannot tell"].map(found);
    const rest = [not && `${not} ${not === 1 ? "does" : "do"} not`, unsure && `${unsure} cannot tell`].filter(Boolean);
    return [`${agree} of ${compared.length} ${agree === 1 ? "agrees" : "agree"}`, ...rest].join(", ");
  }

  function sentence() {
    const published = board.filter((row) => row.published).length;
    const models = new Set(runs.map((run) => run.model)).size;
    const newest = runs.map((run) => run.ended).sort().pop();
    const without = measured.length - compared.length;
    return [`${count(runs.length, "run")} of ${count(models, "model")} beside ${count(published, "published number")}`,
      compared.length ? `; ${count(compared.length, "published number")} could be compared${without ? `, ${count(without, "measured number")} could not, without a published one or a test` : ""}` : "",
      ...(newest ? [". The newest run is of ", make("span", { className: "date" }, newest.slice(0, 10)), "."] : ["."]), problems.length ? ` ${count(problems.length, "run folder")} could not be used.` : ""];
  }

  const side = (row, name) => row && [make("strong", {}, one(row.value)), make("small", {}, `${name} ${page.interval(row)}, n = ${row.n ?? "unknown"}`)];
  const entry = (row) => make("li", {},
    make("div", { className: "which" }, make("a", { href: "#leaderboard", onclick: () => page.board.show(row.chart) }, row.label), make("small", {}, row.chart)),
    make("div", { className: "sides" }, make("div", {}, side(row.published, "published")), make("div", {}, side(row.measured, "measured")),
      make("div", {}, row.verdict.difference === undefined ? null : make("strong", { className: "difference" }, page.signed(row.verdict.difference)), page.verdict(row))));

  fill("verdict", headline());
  fill("lead", sentence());
  const listed = (compared.length ? compared : measured).toSorted((a, b) => VERDICTS.indexOf(a.verdict.name) - VERDICTS.indexOf(b.verdict.name) || a.verdict.p - b.verdict.p || 0);
  const more = listed.length - SHOWN;
  fill("verdicts", listed.slice(0, SHOWN).map(entry), more > 0 ? make("li", {}, make("a", { href: "#leaderboard" }, `${more} more in the leaderboard`)) : null);
};
