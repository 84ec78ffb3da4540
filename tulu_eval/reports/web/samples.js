"use strict";
// The sample browser's list: one run's samples, filtered and searched, fifty items at a time. Several samples of an item stand
// together under it.

page.samples = (function () {
  const { make, fill } = page;
  const { runs, groups, statuses } = page.data;
  const PAGE = 50;
  const state = { run: -1, status: "", outcome: "", text: "", from: 0, open: -1 };
  let samples = [];
  let shown = [];
  let entries = []; // places in shown, those of an item together
  let unfolded = new Set(); // items whose samples are listed
  let search = 0;

  const name = (run) => `${run.model}, ${run.benchmark} ${run.protocol}: ${run.folder.split("/").pop()}`;
  const sampleName = (run, item, number) => (run.per_item > 1 ? `${item}#${number}` : item);
  const hash = (run, item) => `#sample/${encodeURIComponent(run.folder)}/${encodeURIComponent(item)}`;

  /** A run's samples: index and items put together; texts stay packed. */
  async function read(place) {
    const [index, group] = await Promise.all([page.open(`run-${place}`), page.open(`group-${runs[place].group}`)]);
    const judges = Object.entries(index.judges);
    return index.items.map((item, at) => ({
      item, itemName: group.items[item], number: index.numbers?.[at] ?? 1, name: sampleName(runs[place], group.items[item], index.numbers?.[at]), target: group.targets[item], asked: group.asked?.[item] ?? null, status: statuses[index.statuses[at]],
      answers: index.answers[at], scores: index.scores[at], tokens: index.tokens[at], end: index.ends[at],
      judges: judges.map(([judge, preferences]) => [judge, preferences[at]]),
    }));
  }

  function blockOf(group, item) {
    let block = 0;
    while (block + 1 < group.starts.length && group.starts[block + 1] <= item) block += 1;
    return block;
  }

  /** What every run wrote about an item: its question, and for each sample [run, number, text, error?, what stood before the
   * question there?, [given text, tokens, log-probability of all of it, per token, per byte]s?]. */
  async function texts(run, item) {
    const group = groups[run.group];
    const block = blockOf(group, item);
    const [question, written] = (await page.open(`block-${run.group}-${block}`))[item - group.starts[block]];
    return { question, written };
  }

  const apart = (sample) => new Set(sample.scores).size > 1;
  const OUTCOMES = {
    right: ["Right", (sample) => sample.scores[0] === 1],
    wrong: ["Wrong", (sample) => sample.scores[0] !== 1],
    apart: ["Scorers disagree", apart],
    unread: ["Scorers read different answers", (sample) => new Set(sample.answers).size > 1],
  };

  async function choose(place, item) {
    Object.assign(state, { run: place, status: "", outcome: "", text: "", from: 0, open: -1 });
    try {
      samples = await read(place);
    } catch (error) {
      fill("sample-body", make("p", { className: "notice" }, `The samples of this run cannot be opened: ${error.message}`));
      return;
    }
    controls();
    await filter();
    const wanted = item === undefined ? -1 : shown.findIndex((sample) => sample.name === item);
    if (wanted >= 0) await open(wanted);
  }

  function controls() {
    const set = (key) => (value) => { state[key] = value; filter(); };
    const by = (test) => samples.filter(test).length;
    const present = statuses.map((status) => [status, `${status.replace("_", " ")} (${by((sample) => sample.status === status)})`]);
    const outcomes = Object.entries(OUTCOMES)
      .filter(([key]) => key === "right" || key === "wrong" || runs[state.run].scorers.length > 1)
      .map(([key, [label, test]]) => [key, `${label} (${by(test)})`]);
    fill("sample-controls",
      page.select("Run", runs.map((run, place) => [String(place), name(run)]), String(state.run), (value) => choose(Number(value)), { id: "sample-run" }),
      page.select("Class", [["", `All (${samples.length})`], ...present], "", set("status")),
      runs[state.run].scorers.length ? page.select("Grade", [["", "All"], ...outcomes], "", set("outcome")) : [],
      page.search("Find in questions and completions", "words, an answer, an item", set("text"), 250));
  }

  async function filter() {
    const mine = ++search;
    const run = runs[state.run];
    let found = samples.filter((sample) =>
      (!state.status || sample.status === state.status) && (!state.outcome || OUTCOMES[state.outcome][1](sample)));
    if (state.text) {
      const kept = [];
      for (const sample of found) {
        const { question, written } = await texts(run, sample.item);
        if (mine !== search) return;
        const [, , said, error, , likelihoods = []] = written.find(([place, number]) => place === state.run && number === sample.number) ?? [];
        const all = [sample.name, sample.target, ...sample.answers, question, said, error, ...likelihoods.map(([given]) => given)];
        if (all.some((text) => text && text.toLowerCase().includes(state.text))) kept.push(sample);
      }
      found = kept;
    }
    Object.assign(state, { from: 0, open: -1 });
    shown = found;
    entries = [];
    shown.forEach((sample, place) => (shown[place - 1]?.item === sample.item ? entries.at(-1).push(place) : entries.push([place])));
    unfolded = new Set(shown.length <= PAGE && shown.length < samples.length ? shown.map((sample) => sample.item) : []);
    list();
    sheet(null);
  }

  const mark = (score) => (score === 1 ? make("span", { className: "right" }, "✓ right") : score === 0 ? make("span", { className: "wrong" }, "✕ wrong") : score.toFixed(2));
  const answer = (text) => (text === null ? make("span", { className: "none" }, "none read") : make("span", { className: "answer" }, text || "–"));
  const brief = (text) => answer(text && text.length > 24 ? `${text.slice(0, 20)}… (${text.length} characters)` : text);

  const asked = (sample) => (sample.asked === null ? null : make("small", { className: "asked" }, sample.asked));

  /** The row of an item with several samples: their classes, and how many of them each scorer calls right. */
  function heading(places, { run, targets, counted }) {
    const { item, itemName, target } = shown[places[0]];
    const all = samples.filter((sample) => sample.item === item);
    const classes = statuses.map((status) => [status, all.filter((sample) => sample.status === status).length]).filter(([, count]) => count);
    const right = (at) => all.filter((sample) => sample.scores[at] === 1).length;
    const turn = () => {
      if (!unfolded.delete(item)) unfolded.add(item);
      list();
      document.querySelector(`#sample-list [data-item="${item}"]`).focus();
    };
    return make("tr", { role: "row", className: "item", onclick: turn },
      make("th", { scope: "row", role: "rowheader" }, make("button", { type: "button", className: "disclose", "data-item": item, "aria-expanded": String(unfolded.has(item)) }, itemName), asked(shown[places[0]])),
      make("td", { role: "cell", className: "class" }, classes.flatMap(([status, count], at) => [at ? ", " : "", make("span", { className: `class ${status}` }, `${count} ${status.replace("_", " ")}`)])),
      targets && make("td", { role: "cell", className: "target" }, brief(target)),
      run.scorers.map((_, at) => make("td", { role: "cell", "data-title": run.scorers[at] }, `${right(at)} of ${all.length} right`)),
      all[0].judges.map(() => make("td", { role: "cell" })),
      counted && make("td", { role: "cell" }));
  }

  function line(place, { run, targets, counted }) {
    const sample = shown[place];
    const several = run.per_item > 1;
    const button = make("button", { type: "button", className: "disclose", "data-place": place, onclick: () => open(place) }, several ? `sample ${sample.number}` : sample.name);
    return make("tr", { role: "row", className: `${place === state.open ? "chosen" : ""}${several ? " of-item" : ""}`, onclick: (event) => event.target.closest("button") || open(place) },
      make("th", { scope: "row", role: "rowheader" }, button, several ? null : asked(sample)),
      make("td", { role: "cell", className: `class ${sample.status}` }, sample.status.replace("_", " ")),
      targets && make("td", { role: "cell", className: "target", ...(several ? {} : { "data-title": "right answer" }) }, several ? null : brief(sample.target)),
      sample.scores.map((score, at) => make("td", { role: "cell", className: apart(sample) ? "apart" : "", "data-title": run.scorers[at] }, brief(sample.answers[at]), " ", mark(score))),
      sample.judges.map(([judge, preference]) => make("td", { role: "cell", "data-title": `judge ${judge}` }, preference === null || preference === undefined ? "–" : (preference - 1).toFixed(2))),
      counted && make("td", { role: "cell", className: "number" }, sample.tokens ?? "–"));
  }

  function list() {
    const run = runs[state.run];
    const judges = samples.length ? samples[0].judges.map(([judge]) => judge) : [];
    const targets = samples.some((sample) => sample.target);
    const counted = samples.some((sample) => sample.tokens !== null);
    const head = ["Item", "Class", ...(targets ? ["Right answer"] : []), ...run.scorers, ...judges.map((judge) => `judge ${judge}`), ...(counted ? ["Tokens"] : [])];
    const columns = { run, targets, counted };
    const rows = entries.slice(state.from, state.from + PAGE).map((places) => (run.per_item > 1
      ? [heading(places, columns), ...(unfolded.has(shown[places[0]].item) ? places.map((place) => line(place, columns)) : [])]
      : places.map((place) => line(place, columns))));
    const last = Math.min(state.from + PAGE, entries.length);
    const found = run.per_item > 1 ? `${page.count(entries.length, "item")}, ${page.count(shown.length, "sample")}` : page.count(shown.length, "sample");
    const step = (by, text, off) => make("button", { type: "button", disabled: off, onclick: () => { state.from += by; list(); document.getElementById("sample-list").scrollIntoView({ block: "nearest" }); } }, text);
    fill("sample-list",
      make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": "Samples" },
        make("table", { className: "samples", role: "table" },
          make("caption", {}, `${name(run)}. A judge's figure is its preference for this output, 0 to 1.`.replace(judges.length ? "" : / A judge's.*/, "")),
          make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, head.map((title) => make("th", { scope: "col", role: "columnheader", className: { Tokens: "number", Class: "kind", "Right answer": "target" }[title] ?? "" }, title)))),
          make("tbody", { role: "rowgroup" }, rows))),
      make("div", { className: "pages" }, step(-PAGE, "Previous 50", state.from === 0),
        make("span", { role: "status" }, shown.length ? `${state.from + 1} to ${last} of ${found}` : samples.length ? "No sample matches the filters." : "This run's samples are not here: its numbers were made of a file."),
        step(PAGE, "Next 50", last === entries.length),
        shown.length ? make("span", { className: "downloads" }, page.downloads(`samples of ${run.model} ${run.benchmark} ${run.protocol}`, records)) : null));
  }

  /** The samples that pass the filters, as they are downloaded, with their texts. */
  async function records() {
    const run = runs[state.run];
    const found = [];
    for (const sample of shown) {
      const { question, written } = await texts(run, sample.item);
      const [, , completion = null, error = ""] = written.find(([place, number]) => place === state.run && number === sample.number) ?? [];
      found.push({ model: run.model, benchmark: run.benchmark, protocol: run.protocol, item: sample.name, question, completion, error, class: sample.status, target: sample.target,
        ...Object.fromEntries(run.scorers.flatMap((scorer, at) => [[`${scorer}_answer`, sample.answers[at]], [`${scorer}_score`, sample.scores[at]]])),
        ...Object.fromEntries(sample.judges.map(([judge, preference]) => [`judge_${judge}`, preference ?? null])), tokens: sample.tokens, end: sample.end });
    }
    return found;
  }

  /** Opens a sample of the list beside it, and moves the focus there. */
  async function open(place) {
    state.open = place;
    const sample = shown[place];
    unfolded.add(sample.item);
    state.from = Math.floor(entries.findIndex((places) => places.includes(place)) / PAGE) * PAGE;
    list();
    const run = runs[state.run];
    const { question, written } = await texts(run, sample.item);
    if (shown[place] !== sample || state.open !== place) return;
    history.replaceState(null, "", hash(run, sample.name));
    sheet(page.sheet({ sample, run, own: state.run, question, written, name, mark, answer,
      step: (by) => (place + by >= 0 && place + by < shown.length ? () => open(place + by) : null),
      go: (other, number) => show(other, sampleName(runs[other], sample.itemName, number)), close }));
    document.querySelector("#sample-sheet h3").focus({ preventScroll: true });
    if (matchMedia("(max-width: 60rem)").matches) document.getElementById("sample-sheet").scrollIntoView({ block: "start" });
  }

  function close() {
    const place = state.open;
    state.open = -1;
    history.replaceState(null, "", "#samples");
    list();
    sheet(null);
    document.querySelector(`#sample-list [data-place="${place}"]`)?.focus();
  }

  function sheet(content) {
    document.getElementById("sample-body").classList.toggle("reading", content !== null);
    fill("sample-sheet", content ?? make("p", { className: "hint" }, "Choose a sample to read its prompt, completion and grades."));
  }

  function frame() {
    fill("sample-browser",
      make("div", { className: "controls", id: "sample-controls" }),
      make("div", { id: "sample-body" }, make("div", { id: "sample-list" }), make("article", { id: "sample-sheet", "aria-label": "Sample" })));
  }

  /** Goes to a run's samples, and to one of them where it is named. */
  async function show(place, item) {
    document.getElementById("samples").scrollIntoView();
    if (place !== state.run || item !== undefined) await choose(place, item);
    if (item === undefined) document.getElementById("sample-run").focus({ preventScroll: true });
  }

  function start() {
    if (!runs.length) {
      fill("sample-browser", make("p", { className: "hint" }, "There is no run, so there is no sample."));
      return;
    }
    frame();
    const [, folder, item] = location.hash.split("/").map(decodeURIComponent);
    const linked = location.hash.startsWith("#sample/") ? runs.findIndex((run) => run.folder === folder) : -1;
    if (linked >= 0) show(linked, item);
    else choose(0);
  }

  return { start, show };
})();
