"use strict";
// The leaderboard: filters, the table and its order. The plot above it shows the same rows in the same order.

page.board = (function () {
  const { make, fill, one, pill } = page;
  const rows = page.data.board.map((row, place) => ({ ...row, place }));
  // One chart for each metric and judge: numbers of two never share an axis or a column.
  const charts = page.data.charts.filter((chart) => rows.some((row) => row.chart === chart.name));
  const first = (test) => charts.find((chart) => rows.some((row) => row.chart === chart.name && test(row)));
  const state = { chart: first((row) => row.measured && row.published) ?? first((row) => row.measured) ?? charts[0], scope: "", verdict: "", text: "", sort: "verdict", down: false };

  const SCOPES = [
    ["", "Card and measured"],
    ["measured", "Measured"],
    ["card", "Model card"],
    ["all", "All"],
  ];
  const { VERDICTS, verdict } = page;
  const COLUMNS = [
    { key: "label", title: "Model", value: (row) => row.label.toLowerCase() },
    { key: "size", title: "Size", value: (row) => size(row.size), number: true },
    { key: "stage", title: "Trained by", value: (row) => row.stage.toLowerCase() },
    { key: "published", title: "Published", value: (row) => row.published?.value, number: true },
    { key: "measured", title: "Measured", value: (row) => row.measured?.value, number: true },
    { key: "difference", title: "Difference", value: (row) => row.verdict.difference, number: true },
    { key: "verdict", title: "Verdict", value: (row) => VERDICTS.indexOf(row.verdict.name) },
    { key: "judge", title: "Judge", value: (row) => row.judge, when: (shown) => shown.some((row) => row.judge) },
  ];

  function size(text) {
    const found = /^([\d.]+)\s*([MBT]?)/.exec(text);
    return found ? Number(found[1]) * { "": 1, M: 1e6, B: 1e9, T: 1e12 }[found[2]] : null;
  }

  const near = (row) => row.scope !== "suite";
  const inScope = { "": near, measured: (row) => row.measured, card: (row) => row.scope === "card", all: () => true };

  /** The chart's rows that pass all filters. Where nothing is on the card or measured, the first scope has everything. */
  function chosen() {
    const mine = rows.filter((row) => row.chart === state.chart.name);
    const within = state.scope === "" && !mine.some(near) ? inScope.all : inScope[state.scope];
    const wanted = mine.filter(
      (row) =>
        within(row) &&
        (!state.verdict || row.verdict.name === state.verdict) &&
        (!state.text || `${row.label} ${row.model} ${row.stage} ${row.size} ${row.judge}`.toLowerCase().includes(state.text)),
    );
    const column = COLUMNS.find((candidate) => candidate.key === state.sort);
    return column ? wanted.sort((a, b) => order(column.value(a), column.value(b)) || a.place - b.place) : wanted;
  }

  /** Rows without a value come last, whatever the direction. */
  function order(a, b) {
    const lack = (value) => value === null || value === undefined || value === "";
    if (lack(a) || lack(b)) return lack(a) - lack(b);
    const way = a < b ? -1 : a > b ? 1 : 0;
    return state.down ? -way : way;
  }

  /** Ascending, descending, and back to the default: the verdict, worst first. */
  function turn(key) {
    if (state.sort !== key) Object.assign(state, { sort: key, down: false });
    else if (!state.down) state.down = true;
    else Object.assign(state, { sort: "verdict", down: false });
    draw();
    document.querySelector(`#board [data-sort="${key}"]`)?.focus();
  }

  function heading(column) {
    const sorted = state.sort === column.key;
    const way = sorted ? (state.down ? "descending" : "ascending") : "none";
    return make(
      "th",
      { scope: "col", role: "columnheader", "aria-sort": way, className: column.number ? "number" : "" },
      make("button", { type: "button", "data-sort": column.key, onclick: () => turn(column.key) }, column.title,
        make("span", { "aria-hidden": "true", className: "arrow" }, sorted ? (state.down ? " ↓" : " ↑") : " ↕")),
    );
  }

  function number(row) {
    const of = row.of && row.n < row.of ? ` of ${row.of}` : "";
    return [make("strong", {}, one(row.value)), make("small", {}, `${page.interval(row)}, n = ${row.n ?? "unknown"}${of}`)];
  }

  function published(row) {
    if (!row.published) return make("span", { className: "none" }, "not published");
    const doubt = row.published.contradictions.map((name) =>
      make("a", { className: "pill doubt", href: `#contradiction-${name}`, title: name }, "contradicted"));
    const group = row.published.group ? make("small", {}, `group ${row.published.group}`) : null;
    return [number(row.published), group, doubt.slice(0, 1)];
  }

  function body(row, columns) {
    const detail = `detail-${row.place}`;
    const button = make("button", { type: "button", className: "disclose", "aria-expanded": "false", "aria-controls": detail }, row.label);
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(open));
      const target = document.getElementById(detail);
      target.hidden = !open;
      if (open && !target.firstChild.firstChild) target.firstChild.append(page.detail(row));
    });
    const { difference, p, why } = row.verdict;
    const cells = {
      label: [button, make("small", { className: "hub" }, row.model === row.label ? "" : row.model), make("small", { className: "narrow" }, `${row.size}, ${row.stage === "-" ? "SFT" : row.stage}`)],
      size: row.size,
      stage: row.stage,
      published: published(row),
      measured: row.measured ? [number(row.measured), row.beware.map((text) => make("small", { className: "beware" }, text))] : make("span", { className: "none" }, "not measured"),
      difference: difference === undefined ? "" : [make("strong", {}, page.signed(difference)), make("small", {}, "points")],
      verdict: row.measured ? [verdict(row), make("small", {}, p === undefined ? why : `p = ${p.toPrecision(2)}`)] : make("span", { className: "none" }, "–"),
      judge: row.judge,
    };
    const line = make("tr", { role: "row", className: row.measured ? "measured" : "" });
    for (const column of columns) {
      const head = column.key === "label";
      line.append(make(head ? "th" : "td", {
        scope: head ? "row" : null, role: head ? "rowheader" : "cell", "data-title": column.title,
        className: `c-${column.key}${column.number ? " number" : ""}`,
      }, cells[column.key]));
    }
    const signed = row.measured ? make("tr", { role: "row", className: "signed" },
      make("td", { role: "cell", colSpan: columns.length, className: "c-signature" }, make("span", { className: "unseen" }, "Signature: "), page.signature(row.measured.signature))) : [];
    return [line, signed, make("tr", { role: "row", id: detail, className: "detail", hidden: true },
      make("td", { role: "cell", colSpan: columns.length }))];
  }

  /** A row as it is downloaded. */
  function record(row) {
    const side = (name, found) => Object.fromEntries(["value", "low", "high", "n"].map((key) => [`${name}_${key}`, found?.[key] ?? null]));
    return { model: row.model, label: row.label, size: row.size, stage: row.stage, number: row.chart, judge: row.judge,
      ...side("published", row.published), standing: row.published?.standing ?? "", sources: row.published?.sources.join("; ") ?? "", contradictions: row.published?.contradictions.join(" ") ?? "",
      ...side("measured", row.measured), failed: row.measured?.failed ?? null, protocol: row.measured?.protocol ?? "", scorer: row.measured?.scorer ?? "",
      difference: row.verdict.difference ?? null, p: row.verdict.p ?? null, verdict: row.verdict.name, why: row.verdict.why ?? "", signature: row.measured?.signature ?? "" };
  }

  function draw() {
    const shown = chosen();
    const columns = COLUMNS.filter((column) => !column.when || column.when(shown));
    const sorted = COLUMNS.find((column) => column.key === state.sort);
    fill("board",
      make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": `${state.chart.name}, published and measured` },
        make("table", { className: "board", role: "table" },
          make("caption", {}, `${state.chart.axis}. An interval is a 95 % interval; n is the number of items behind a number. A model's name opens sources, verdict and signature.`),
          make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, columns.map(heading))),
          make("tbody", { role: "rowgroup" }, shown.map((row) => body(row, columns))))));
    const worst = sorted.key === "verdict";
    const way = `${sorted.title.toLowerCase()}, ${worst ? (state.down ? "worst last" : "worst first") : state.down ? "descending" : "ascending"}`;
    fill("board-status", `${page.count(shown.length, "row")} shown. Order: ${way}.`);
    fill("board-downloads", page.downloads(`tulu-eval ${state.chart.name}`, () => shown.map(record)));
    page.dots(shown, state.chart);
  }

  /** The select of charts: those with a measured number first. */
  function picker() {
    const named = (chart) => ({ chart, count: rows.filter((row) => row.chart === chart.name && row.measured).length });
    const option = ({ chart, count }) => make("option", { value: chart.name, selected: chart === state.chart }, count ? `${chart.name} (${count})` : chart.name);
    const all = charts.map(named);
    const group = (label, found) => (found.length ? make("optgroup", { label }, found.map(option)) : []);
    return page.field("Benchmark", make("select", { id: "board-chart", onchange: (event) => show(event.target.value) },
      group("Measured here (models)", all.filter(({ count }) => count)), group("Published only", all.filter(({ count }) => !count))), "field");
  }

  function show(name) {
    state.chart = charts.find((chart) => chart.name === name);
    document.getElementById("board-chart").value = name;
    draw();
  }

  function controls() {
    const set = (name) => (value) => { state[name] = value; draw(); };
    const byColumn = COLUMNS.filter(({ when }) => !when).flatMap(({ key, title }) => [[`${key} up`, key === "verdict" ? "Verdict, worst first" : `${title}, ascending`], [`${key} down`, key === "verdict" ? "Verdict, worst last" : `${title}, descending`]]);
    fill("board-controls",
      picker(),
      page.filters(
        page.search("Find a model", "name, stage, size", set("text"), 80),
        page.select("Rows", SCOPES, state.scope, set("scope")),
        page.select("Verdict", [["", "Any"], ...VERDICTS.map((name) => [name, name])], "", set("verdict")),
        make("div", { className: "narrow" }, page.select("Order", byColumn, "verdict up", (value) => {
          const [key, way] = value.split(" ");
          Object.assign(state, { sort: key, down: way === "down" });
          draw();
        }))));
  }

  return { start() { controls(); draw(); }, show };
})();

/** What a row's disclosure shows. */
page.detail = function (row) {
  const { make } = page;
  const list = make("dl", { className: "facts" });
  const add = (title, ...content) => list.append(make("dt", {}, title), make("dd", {}, content));
  if (row.published) {
    const { published } = row;
    add("Published", `${published.printed}${published.label ? ` as “${published.label}”` : ""}, standing: ${published.standing}${published.identity === "inferred" ? ", model inferred" : ""}`,
      make("ul", {}, published.sources.map((source) => make("li", {}, source))));
    for (const name of published.contradictions) {
      const entry = page.data.contradictions.find((one) => one.id === name);
      add("Contradicted", `${entry.first} ${entry.second} `, make("em", {}, entry.advice));
    }
    if (published.group) add("Group", `${published.group}: rows that share a letter are not separated by the data (Fisher's exact test of every pair, Holm's correction, 5 %)`);
  }
  if (row.measured) {
    const { measured, full } = row;
    const say = (one) => `${page.one(one.value)} [${page.interval(one)}], n = ${one.n} of ${one.of}${one.failed ? `, ${one.failed} failed` : ""}, protocol ${one.protocol}, scorer ${one.scorer}, interval ${one.interval}`;
    add("Measured", say(measured), row.runs > 1 ? ` (one of ${row.runs} runs: the one with most items, then the newest)` : "");
    if (full) add("On all items", say(full));
    add("Verdict", row.verdict.p === undefined ? row.verdict.why || "none" : row.verdict.why);
    add("Signature", page.signature(measured.signature), full && full.signature !== measured.signature ? page.signature(full.signature) : null);
  }
  if (row.lineage && row.lineage.path.length > 1) add("Comes from", row.lineage.path.join(" → "));
  if (row.lineage && row.lineage.reward_model) add("Rewarded by", row.lineage.reward_model);
  if (row.lineage && row.lineage.value_model) add("Value model", row.lineage.value_model);
  const buttons = row.run === null ? [] : [make("button", { type: "button", onclick: () => page.samples.show(row.run) }, "Read its samples")];
  return make("div", { className: "detail-body" }, list, buttons);
};
