"use strict";
// One sample: question, whole prompt, completion, what each scorer read, and the same item in other runs.

page.sheet = function ({ sample, run, own, question, written, name, mark, answer, step, go, close }) {
  const { make } = page;
  const mine = ([place, number]) => place === own && number === sample.number;
  const [, , text, error, before = "", likelihoods = []] = written.find(mine) ?? [own, sample.number, null];
  const button = (label, action, spoken) => make("button", { type: "button", disabled: action === null, onclick: action, "aria-label": spoken }, label);

  const table = (title, head, rows) => make("table", {}, make("caption", {}, title),
    make("thead", {}, make("tr", {}, head.map((one) => make("th", { scope: "col" }, one)))),
    make("tbody", {}, rows.map(([first, ...rest]) => make("tr", {}, make("th", { scope: "row" }, first), rest.map((one) => make("td", {}, one))))));

  const grades = table("Grades", ["Scorer", "Read", "Grade"], [
    ...run.scorers.map((scorer, at) => [scorer, answer(sample.answers[at]), mark(sample.scores[at])]),
    ...sample.judges.map(([judge, preference]) => [`judge ${judge}`, "", preference === null || preference === undefined ? "no preference" : `prefers this output: ${(preference - 1).toFixed(3)}`]),
  ]);

  const siblings = written.filter((one) => one[0] === own && !mine(one));
  const others = written.filter(([place]) => place !== own);
  const said = ([, , other, , , given]) => (other === text ? "the same text" : given ? other : `${other.length.toLocaleString("en")} characters`);
  const row = (label, one) => [button(label, () => go(one[0], one[1])), said(one)];
  const numbered = ([place, number]) => (page.data.runs[place].per_item > 1 ? `${name(page.data.runs[place])}, sample ${number}` : name(page.data.runs[place]));

  return [
    make("div", { className: "sheet-bar" }, button("Back", close, "Back to the list"), button("Previous", step(-1), "Previous sample"), button("Next", step(1), "Next sample")),
    make("h3", { tabIndex: -1 }, sample.name),
    make("p", {}, page.pill(sample.status === "ok" ? "good" : "unsure", sample.status.replace("_", " ")),
      
      [sample.end !== "unknown" && ` ended by ${sample.end}`, sample.tokens !== null && ` ${page.count(sample.tokens, "token")}`, sample.target && [" right answer ", make("strong", {}, sample.target)]]
        .filter(Boolean).flatMap((part, at) => (at ? [",", part] : [part]))),
    run.scorers.length || sample.judges.length ? grades : null,
    make("h4", {}, "Question"),
    question === null ? make("p", { className: "hint" }, `Not in this file: ${run.promptless}.${text === null ? "" : ` “tulu-eval report --data ${run.benchmark}=FILE” puts it in.`}`) : make("pre", { className: "question" }, question),
    question === null ? null : prompt(),
    make("h4", {}, likelihoods.length ? "How likely each given text is" : "Completion"),
    text === null ? make("p", { className: "hint" }, "The text is not in this file.") : likelihoods.length ? given() : make("pre", { className: "completion", tabIndex: 0 }, marked()),
    error ? make("p", { className: "notice" }, `The engine failed: ${error}`) : null,
    siblings.length ? make("details", {}, make("summary", {}, `${page.count(siblings.length, "other sample")} of this item`), table("Other samples", ["Sample", "Completion"], siblings.map((one) => row(`Sample ${one[1]}`, one)))) : null,
    others.length ? make("details", {}, make("summary", {}, `The same item in ${page.count(new Set(others.map(([place]) => place)).size, "other run")}`), table("Other runs", ["Run", "Completion"], others.map((one) => row(numbered(one), one)))) : null,
  ];

  function prompt() {
    const constant = run.before.length + run.after.length;
    const whole = constant + before.length + question.length;
    const sure = run.proven ? "Its sha256 is the ledger's." : `${run.source ? "It is the benchmark's prompt; the other harness may have sent another" : "A chat template surrounds it, whose text is not in the run folder"}.${run.prefill ? ` The answer starts with “${run.prefill}”.` : ""}`;
    return make("details", {}, make("summary", {}, `Whole prompt (${page.count(whole, "character")}, of which ${constant.toLocaleString("en")} are the same for every item)`),
      make("p", { className: "hint" }, sure),
      make("pre", { tabIndex: 0 }, make("span", { className: "constant" }, run.before), before, question, make("span", { className: "constant" }, run.after)));
  }

  /** A row per given text: its log-probability in all, per token and per byte, the highest of each column bold. */
  function given() {
    const best = [2, 3, 4].map((at) => Math.max(...likelihoods.map((one) => one[at] ?? -Infinity)));
    const likeliest = likelihoods.findIndex(([one]) => one === text);
    const number = (value, top) => make("td", { className: "number" }, value === null ? "–" : make(value === top ? "strong" : "span", {}, value.toFixed(4)));
    return make("div", { className: "wide", tabIndex: 0, role: "region", "aria-label": "Given texts" }, make("table", { className: "likelihoods" },
      make("caption", {}, "Natural log-probabilities after the prompt; the highest of each column is bold."),
      make("thead", {}, make("tr", {}, ["Text", "Sum", "Per token", "Per byte", "Tokens"].map((title, at) => make("th", { scope: "col", className: at ? "number" : "" }, title)))),
      make("tbody", {}, likelihoods.map(([one, tokens, ...values], place) => make("tr", {},
        make("th", { scope: "row" }, make("span", { className: "given" }, one || "(empty)"),
          place === likeliest && [" ", page.pill("dull", "likeliest")], sample.target && one.trim() === sample.target.trim() && [" ", page.pill("good", "right answer")]),
        values.map((value, at) => number(value, best[at])), make("td", { className: "number" }, String(tokens)))))));
  }

  /** The completion, with the place marked where the first scorer's answer stands last. */
  function marked() {
    const wanted = sample.answers[0];
    const place = wanted ? text.lastIndexOf(wanted) : -1;
    if (place < 0) return text === "" ? make("span", { className: "none" }, "(empty)") : text;
    return [text.slice(0, place), make("mark", { title: `read by ${run.scorers[0]}` }, wanted), text.slice(place + wanted.length)];
  }
};
