"use strict";
// Training runs: a curve for each number of every step, sample rollouts, and the probe's gain. Each run's part is opened when chosen.

page.training = (function () {
  const { make, fill } = page;
  const runs = page.data.training;
  const state = { run: 0, look: -1 };
  let data = null;
  let width = 0;

  // Titles and units, in the order of the page; a curve that is not listed comes last under its own name.
  const CURVES = [
    ["score", "Reward", "mean per response"],
    ["kl", "KL from the start", "nats per response"],
    ["eos_rate", "EOS rate", "share of responses that ended"],
    ["length", "Length", "tokens per response"],
    ["entropy", "Entropy", "nats per token"],
    ["clip_fraction", "Clip fraction", "share of tokens"],
    ["explained_variance", "Explained variance", "of the value model"],
    ["accuracy", "Accuracy", "share of pairs"],
    ["margin", "Margin", "chosen over rejected"],
    ["loss", "Loss", ""],
    ["policy_gradient_norm", "Gradient norm, policy", "before clipping"],
    ["value_model_gradient_norm", "Gradient norm, value model", "before clipping"],
    ["reward_model_gradient_norm", "Gradient norm, reward model", "before clipping"],
    ["tokens_per_second", "Tokens per second", ""],
    ["mfu", "MFU", "share of the machine's peak"],
    ["learning_rate", "Learning rate", ""],
    ["approximate_kl", "Approximate KL", "per update, nats per token"],
    ["kl_per_token", "KL per token", "nats"],
    ["score_deviation", "Reward, deviation", "over responses"],
    ["policy_loss", "Policy loss", ""],
    ["value_loss", "Value loss", ""],
    ["seconds", "Seconds per step", ""],
    ["tokens", "Tokens per step", ""],
    ["skipped", "Updates skipped so far", "not finite"],
  ];

  const OFTEN = new Set(CURVES.slice(0, 15).map(([key]) => key));

  const brief = (value) => (value === null || value === undefined ? "–" : value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4))));
  const points = (interval) => interval.map((value) => `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(1)}`).join(" to ");
  const signed = (value) => `${value < 0 ? "−" : value > 0 ? "+" : ""}${Math.abs(value).toFixed(1)}`;

  function curves() {
    const known = new Set(CURVES.map(([key]) => key));
    const all = [...CURVES, ...Object.keys(data.curves).filter((key) => !known.has(key)).map((key) => [key, key.replaceAll("_", " "), ""])];
    return all.filter(([key]) => data.curves[key]?.some((value) => value !== null));
  }

  const AXES = { width: 360, height: 170, marginLeft: 56, marginRight: 12, marginTop: 10, marginBottom: 28,
    style: { background: "transparent", color: "var(--ink)", fontFamily: "inherit", fontSize: "12px", overflow: "visible" } };
  const marks = { grid: () => Plot.gridY({ stroke: "var(--line)", strokeOpacity: 1, ticks: 4 }) };

  function curve([key, title, unit]) {
    const values = data.curves[key];
    const rows = data.steps.map((step, at) => ({ step, value: values[at] }));
    const there = rows.filter((row) => row.value !== null);
    const plot = Plot.plot({ ...AXES, width,
      x: { label: null, ticks: 5, tickSize: 0, tickFormat: ",d", domain: [data.steps[0], Math.max(data.steps[0] + 1, data.steps.at(-1))] },
      y: { label: null, ticks: 4, tickSize: 0, nice: true, tickFormat: (value) => brief(value) },
      marks: [marks.grid(),
        Plot.lineY(rows, { x: "step", y: "value", stroke: "var(--accent)", strokeWidth: 1.75 }),
        there.length < 3 ? Plot.dot(there, { x: "step", y: "value", fill: "var(--accent)", r: 3 }) : null,
        Plot.tip(there, Plot.pointerX({ x: "step", y: "value", title: (row) => `step ${row.step.toLocaleString("en")}\n${brief(row.value)}`, fill: "var(--raised)", stroke: "var(--line)" }))],
    });
    plot.setAttribute("role", "img");
    const low = there.reduce((least, row) => Math.min(least, row.value), Infinity);
    const high = there.reduce((most, row) => Math.max(most, row.value), -Infinity);
    const [first, last] = [there[0], there.at(-1)];
    plot.setAttribute("aria-label", `${title}${unit ? `, ${unit}` : ""}, by step: ${brief(first.value)} at step ${first.step}, ${brief(last.value)} at step ${last.step}, between ${brief(low)} and ${brief(high)}`);
    return make("figure", { className: "curve" },
      make("figcaption", {}, make("strong", {}, title), make("span", { className: "ends" }, `${brief(first.value)} → ${brief(last.value)}`), make("small", {}, unit || "\u00a0")), plot);
  }

  function probe() {
    if (!data.probe.length) return null;
    const [{ benchmark, n }] = data.probe;
    const room = document.getElementById("curves").clientWidth;
    const half = room < 800 ? room - 26 : Math.floor((room - 24) / 2) - 26;
    const rows = data.probe.map((one, at) => make("tr", {}, make("th", { scope: "row", className: "number" }, one.step.toLocaleString("en")),
      make("td", { className: "number" }, make("strong", {}, one.value.toFixed(1)), " ", make("small", {}, points([one.low, one.high]))),
      make("td", { className: "number" }, at ? [make("strong", {}, signed(one.gain)), " ", make("small", {}, points([one.gain_low, one.gain_high]))] : "–"),
      make("td", { className: "number" }, at ? one.p_value.toPrecision(2) : "–"),
      make("td", { className: "number" }, at && one.needed && one.p_value >= 0.05 ? one.needed.toLocaleString("en") : "–")));
    const plot = Plot.plot({ ...AXES, width: half, height: 220,
      x: { label: null, ticks: 6, tickSize: 0, tickFormat: ",d", nice: false, inset: 8 },
      y: { label: null, ticks: 5, tickSize: 0, nice: true },
      marks: [marks.grid(), Plot.ruleY([0], { stroke: "var(--soft)", strokeDasharray: "3 3" }),
        Plot.ruleX(data.probe, { x: "step", y1: "gain_low", y2: "gain_high", stroke: "var(--accent)", strokeWidth: 2 }),
        Plot.dot(data.probe, { x: "step", y: "gain", fill: "var(--accent)", r: 4 }),
        Plot.tip(data.probe, Plot.pointerX({ x: "step", y: "gain", title: (one) => `after ${one.step} steps\n${signed(one.gain)}, 95 % interval ${points([one.gain_low, one.gain_high])}`, fill: "var(--raised)", stroke: "var(--line)" }))],
    });
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", `Gain of ${benchmark} over the start, in points, by step. The table below has every figure.`);
    return [make("h3", {}, `Probe: ${benchmark}, ${page.count(n, "item")}`),
      make("div", { className: "probed" }, make("figure", { className: "curve" }, make("figcaption", {}, make("strong", {}, "Gain over the start"), make("small", {}, "points, with its 95 % interval")), plot),
      make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": "Probe" }, make("table", { className: "probe" },
        make("caption", {}, "Greedy answers to the same items. Gain: paired over the start, in points, with its 95 % interval and McNemar's p. Needed: items that would show a gain of this size."),
        make("thead", {}, make("tr", {}, ["After steps", "Right, %", "Gain", "p", "Needed"].map((title) => make("th", { scope: "col", className: "number" }, title)))),
        make("tbody", {}, rows))))];
  }

  function rollouts() {
    if (!data.rollouts.length) return null;
    const place = state.look < 0 ? data.rollouts.length - 1 : state.look;
    const [step, seen] = data.rollouts[place];
    const some = data.looks > data.rollouts.length ? ` ${data.rollouts.length} of ${data.looks} samplings are in this file.` : "";
    const select = page.select("Step", data.rollouts.map(([at], number) => [String(number), at.toLocaleString("en")]), String(place), (value) => {
      state.look = Number(value);
      fill("rollouts", rollouts());
      document.getElementById("rollout-step").focus();
    }, { id: "rollout-step" });
    const rows = seen.map(([prompt, answer, score, kl, tokens, ended]) => make("tr", {},
      make("td", { "data-title": "Prompt" }, make("pre", { className: "question", tabIndex: 0 }, prompt)),
      make("td", { "data-title": "Answer" }, make("pre", { className: "rollout", tabIndex: 0 }, answer || make("span", { className: "none" }, "(empty)"))),
      make("td", { "data-title": "Reward", className: "number" }, score === null ? "–" : score.toFixed(2)),
      make("td", { "data-title": "KL", className: "number" }, kl === null ? "–" : kl.toFixed(2)),
      make("td", { "data-title": "Tokens", className: "number" }, tokens),
      make("td", { "data-title": "Ended" }, ended ? "yes" : make("span", { className: "wrong" }, "no"))));
    return [make("h3", {}, "Sample rollouts"), make("div", { className: "controls" }, select),
      make("table", { className: "rollouts" }, make("caption", {}, `The first rollouts of step ${step.toLocaleString("en")}.${some}`),
        make("thead", {}, make("tr", {}, ["Prompt", "Answer", "Reward", "KL", "Tokens", "Ended"].map((title) => make("th", { scope: "col" }, title)))),
        make("tbody", {}, rows))];
  }

  function about() {
    const dropped = Object.entries(data.dropped).map(([reason, count]) => `${count} ${reason}`).join(", ");
    const facts = [
      ["Stage", data.stage], ["Recipe", `${data.recipe}${data.about ? `: ${data.about}` : ""}`], ["From", data.model], ["Reward model", data.reward_model],
      ["Steps", `${data.done.toLocaleString("en")} of ${data.planned.toLocaleString("en")}${data.done < data.planned ? ": not finished" : ""}${data.steps.length < data.done ? `; ${data.steps.length.toLocaleString("en")} of them are drawn` : ""}`],
      ["Rows", `${data.rows.toLocaleString("en")}${dropped ? `, dropped: ${dropped}` : ""}`], ["Machine", `${page.count(data.ranks, "rank")}, ${data.machine}`], ["Made by", `tulu-eval ${data.version}${data.commit ? `, ${data.commit}` : ""}`],
    ];
    return [make("dl", { className: "facts" }, facts.filter(([, text]) => text).map(([title, text]) => [make("dt", {}, title), make("dd", {}, text)])),
      make("details", {}, make("summary", {}, page.count(data.settings.length, "setting")),
        make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": "Settings" }, make("table", {}, make("caption", { className: "unseen" }, "Settings"),
          make("thead", {}, make("tr", {}, ["Setting", "Value", "Source"].map((title) => make("th", { scope: "col" }, title)))),
          make("tbody", {}, data.settings.map(([key, value, source]) => make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, value), make("td", {}, source)))))))];
  }

  /** Draws what depends on the width of the page. */
  function draw() {
    const room = document.getElementById("curves").clientWidth;
    const columns = Math.max(1, Math.floor((room + 16) / 330));
    width = Math.floor((room - 16 * (columns - 1)) / columns) - 26;
    const all = curves();
    const often = all.filter(([key]) => OFTEN.has(key));
    const rare = all.filter(([key]) => !OFTEN.has(key));
    const wasOpen = document.querySelector("#training-curves details")?.open ?? false;
    fill("training-curves", data.steps.length ? [make("p", { className: "hint" }, "Each curve is drawn by step; beside its title stand the first and the last value."), make("div", { className: "curves" }, often.map(curve)), rare.length ? make("details", { open: wasOpen }, make("summary", {}, page.count(rare.length, "more curve")), make("div", { className: "curves" }, rare.map(curve))) : null] : make("p", { className: "hint" }, "No step was logged yet."));
    fill("training-probe", probe());
  }

  async function choose(place) {
    Object.assign(state, { run: place, look: -1 });
    try {
      data = await page.open(`training-${place}`);
    } catch (error) {
      fill("training-curves", make("p", { className: "notice" }, `This training run cannot be opened: ${error.message}`));
      return;
    }
    if (state.run !== place) return;
    fill("training-about", about());
    draw();
    fill("rollouts", rollouts());
  }

  return function () {
    if (!runs.length) return;
    for (const node of document.querySelectorAll("#training, nav [href='#training']")) node.hidden = false;
    fill("curves",
      make("div", { className: "controls" }, page.select("Training run", runs.map((name, place) => [String(place), name]), "0", (value) => choose(Number(value)), { id: "training-run" })),
      ["training-about", "training-curves", "training-probe", "rollouts"].map((id) => make("div", { id })));
    let before = 0;
    new ResizeObserver(() => {
      const now = document.getElementById("curves").clientWidth;
      if (data && Math.abs(now - before) > 2) requestAnimationFrame(draw);
      before = now;
    }).observe(document.getElementById("curves"));
    choose(0);
  };
})();
