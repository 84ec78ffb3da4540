"use strict";
// Runs, the suite's lineage, contradictions, and what is left out.

page.runs = function () {
  const { make, fill, one } = page;
  const { runs } = page.data;
  if (!runs.length) {
    fill("run-list", make("p", { className: "hint" }, "No run was found. 'tulu-eval run gsm8k --model NAME' makes one."));
    return;
  }
  /** Tells a run from others of the same model and protocol: the folder of results, or the run's own where they share it. */
  function apart(run) {
    const alike = runs.filter((other) => other.model === run.model && other.benchmark === run.benchmark && other.protocol === run.protocol);
    const parts = (other) => other.folder.split("/");
    const above = (other) => parts(other).slice(0, -3).join("/");
    const shared = alike.filter((other) => above(other) === above(run)).length > 1;
    return alike.length < 2 ? "" : shared ? parts(run).at(-1) : above(run) || parts(run).at(-1);
  }

  const cards = runs.map((run, place) => {
    const rows = run.rows.map((row) => make("tr", {},
      make("th", { scope: "row" }, `${row.protocol}, ${row.scorer}, ${row.metric.replaceAll("_", " ")}`),
      make("td", { className: "number" }, make("strong", {}, one(row.value)), " ", make("small", {}, row.low === null ? "no interval" : `[${one(row.low)}, ${one(row.high)}]`)),
      make("td", { className: "number" }, `${row.n} of ${row.of}${row.failed ? `, ${row.failed} failed` : ""}`)));
    const whole = run.rows.reduce((most, row) => (row.n > most.n ? row : most), { n: -1, counts: {} });
    const counts = run.rows.length ? Object.entries(whole.counts).filter(([, count]) => count) : [];
    const top = run.rows.length ? whole : null; // the number of the items that the counts beside it are of
    return make("details", { className: "card" },
      make("summary", {},
        make("h3", {}, run.model), make("span", { className: "sub" }, `${run.benchmark} ${run.protocol}`, apart(run) && make("small", { className: "where" }, apart(run))),
        top ? make("span", { className: "value" }, make("strong", {}, one(top.value)), make("small", {}, ` ${page.interval(top)}, n = ${top.n}${top.n < top.of ? ` of ${top.of}` : ""}`)) : null,
        make("span", { className: "counts" }, run.per_item > 1 && `${run.per_item} samples per item: `, counts.map(([status, count]) => make("span", { className: `class ${status}` }, `${count} ${status.replaceAll("_", " ")}`)))),
      run.summary ? make("p", { className: "sub" }, run.summary) : null,
      make("table", {}, make("caption", { className: "unseen" }, `Rows of ${run.folder}`),
        make("thead", {}, make("tr", {}, ["Protocol, scorer, metric", "Value [95 %], percent", "n"].map((title, at) => make("th", { scope: "col", className: at ? "number" : "" }, title)))), make("tbody", {}, rows)),
      make("details", {}, make("summary", {}, page.count(new Set(run.rows.map((row) => row.signature)).size, "signature")),
        [...new Set(run.rows.map((row) => row.signature))].map((signature) => make("p", {}, page.signature(signature)))),
      make("dl", { className: "facts" },
        [["Unfinished", run.unfinished], ["Failures", run.failures], ["From", run.source], ["Shards", run.shards ? `merged from ${run.shards}` : ""], ["Engine", run.engine], ["Prompt form", run.form], ["Ended", run.ended], ["Folder", run.folder], ["Command", run.command], ["Code", run.commit],
          ["Grades", run.regraded ? "made again by a later version of the benchmark" : ""]]
          .filter(([, text]) => text).map(([title, text]) => [make("dt", {}, title), make("dd", {}, text)])),
      run.samples ? make("button", { type: "button", onclick: () => page.samples.show(place) }, "Read its samples") : null);
  });
  fill("run-list", cards);
};

page.lineage = function () {
  const { make, fill } = page;
  const { models } = page.data;
  const measured = new Set(page.data.board.filter((row) => row.measured).map((row) => row.model));
  const card = new Set(page.data.board.filter((row) => row.scope === "card").map((row) => row.model));
  const short = (id) => (id ? id.split("/").pop() : "");
  const children = (id) => models.filter((model) => model.base === id && model.stage !== "value");

  function facts(model) {
    const parts = [];
    if (model.sft_data) parts.push(`on ${short(model.sft_data)}`);
    if (model.preference_split) parts.push(`${model.reward_model ? "reward model's data" : "on"} ${short(model.preference_split)}`);
    if (model.reward_model && model.stage !== "value") parts.push(`reward model ${short(model.reward_model)}`);
    if (model.prompts) parts.push(`prompts ${model.prompts}`);
    if (model.value_model) parts.push(`value model ${short(model.value_model)}`);
    return parts.join(", ");
  }

  function node(model) {
    const below = children(model.hub_id);
    const { numbers } = model;
    return make("li", {},
      make("div", { className: `model${card.has(model.hub_id) ? " on-card" : ""}` },
        make("span", { className: `stage ${model.stage}` }, model.stage), make("span", { className: "name" }, model.name),
        make("span", { className: "size" }, model.size),
        card.has(model.hub_id) ? page.pill("dull", "model card") : null, measured.has(model.hub_id) ? page.pill("good", "measured") : null,
        make("small", {}, [facts(model), numbers.length ? `published ${numbers.join(", ")}` : ""].filter(Boolean).join(" · "))),
      below.length ? make("ul", {}, below.map(node)) : null);
  }

  const known = new Set(models.map((model) => model.hub_id));
  const roots = models.filter((model) => model.stage !== "value" && (!model.base || !known.has(model.base)));
  const grown = (model) => 1 + children(model.hub_id).reduce((sum, child) => sum + grown(child), 0);
  const has = (model, wanted) => wanted.has(model.hub_id) || children(model.hub_id).some((child) => has(child, wanted));
  fill("lineage",
    make("p", { className: "hint" }, "base → SFT → DPO, or SFT → reward model (RM) and PPO. A model is below the one from which its training started; a PPO model names its reward and value models."),
    roots.map((root) => make("details", { className: "tree", open: has(root, card) && grown(root) < 12 },
      make("summary", {}, `${root.name}, ${page.count(grown(root), "model")}`), make("ul", { className: "lineage" }, node(root)))));
};

page.contradictions = function () {
  const { make, fill } = page;
  const entries = page.data.contradictions.toSorted((a, b) => b.cells - a.cells);
  const list = make("div", {});
  const status = make("p", { className: "status", role: "status" });

  const entry = (one) => make("details", { className: "contradiction", id: `contradiction-${one.id}` },
    make("summary", {}, make("h4", {}, one.title), one.cells ? page.pill("doubt", page.count(one.cells, "published number")) : null),
    make("div", { className: "sides" },
      make("p", {}, one.first, make("cite", {}, one.first_source)),
      make("p", {}, one.second, make("cite", {}, one.second_source))),
    make("p", { className: "advice" }, one.advice),
    one.models.length ? make("small", {}, one.models.join(", ")) : null);

  const group = (title, found, open) => (found.length ? make("details", { className: "group", open },
    make("summary", {}, make("h3", {}, `${title} (${found.length})`)), found.map(entry)) : []);

  function draw(text) {
    const shown = entries.filter((one) => !text || JSON.stringify(one).toLowerCase().includes(text));
    fill(list, group("Numbers that cannot both be right", shown.filter((one) => one.cells), true),
      group("Names, sizes, links and settings", shown.filter((one) => !one.cells), text !== ""));
    status.textContent = `${page.count(shown.length, "contradiction")}, those that touch most published numbers first.`;
  }

  /** Opens the contradiction that the address names, and what it is in. */
  function linked() {
    const target = location.hash.startsWith("#contradiction-") ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    for (let box = target; box; box = box.parentElement.closest("details")) box.open = true;
    target?.scrollIntoView();
  }

  fill("contradiction-list", make("div", { className: "controls" }, page.search("Find", "a model, a number, a source", draw, 80)), status, list);
  draw("");
  addEventListener("hashchange", linked);
  linked();
};

page.leftOut = function () {
  const { make, fill } = page;
  const { problems } = page.data;
  const box = document.getElementById("left-out");
  box.hidden = !problems.length;
  fill(box, make("h2", { id: "left-out-title" }, `${page.count(problems.length, "run folder")} left out`),
    make("p", {}, "The page shows no result of these:"),
    make("ul", {}, problems.map((line) => make("li", {}, line))));
};
