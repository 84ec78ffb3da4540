"use strict";
// The dot plot over the table, drawn with Observable Plot: published and measured, each with its interval.

page.dots = (function () {
  const { make, one } = page;
  let latest = null;
  let width = 0;
  const FEW = 30; // items below which a mark says its n

  function title(row, side) {
    const found = row[side];
    return `${row.label}\n${side} ${one(found.value)}${found.low === null ? ", no interval" : `, 95 % interval ${page.interval(found)}`}, n = ${found.n ?? "unknown"}${
      side === "measured" && row.verdict.p !== undefined ? `\n${row.verdict.name}` : ""}`;
  }

  /** From 0 to 1 how much a mark stands out: few items give a small mark and a thin line, 200 or more the full one. */
  const weight = (n) => Math.min(1, Math.log(Math.max(2, n ?? 200)) / Math.log(200));

  function points(rows, side) {
    return rows.filter((row) => row[side]).map((row) => ({
      y: row.place, x: row[side].value, low: row[side].low, high: row[side].high, title: title(row, side), few: row[side].n < FEW,
      r: 1.5 + 3 * weight(row[side].n), line: 0.5 + 1.5 * weight(row[side].n), n: row[side].n,
      both: Boolean(row.published && row.measured), doubt: side === "published" && row.published.contradictions.length > 0,
    }));
  }

  const canvas = document.createElement("canvas").getContext("2d");

  /** A label that is at most as wide, cut at its end. */
  function fitting(label, most) {
    canvas.font = `13px ${getComputedStyle(document.body).fontFamily}`;
    if (canvas.measureText(label).width <= most) return label;
    let length = label.length;
    while (length > 1 && canvas.measureText(`${label.slice(0, length)}…`).width > most) length -= 1;
    return `${label.slice(0, length).trimEnd()}…`;
  }

  /** Marks of one side: apart from the other's only in a row that has both; a contradicted number's line and mark are dotted. */
  function side(data, shift, apart, ink, symbol, filled) {
    return [[true, true], [true, false], [false, true], [false, false]].map(([both, doubt]) => {
      const chosen = data.filter((point) => point.both === both && point.doubt === doubt);
      const dy = shift + (both ? apart : 0);
      const few = chosen.filter((point) => point.few);
      return [
        Plot.ruleY(chosen.filter((point) => point.low !== null), { y: "y", x1: "low", x2: "high", stroke: ink, strokeWidth: "line", strokeDasharray: doubt ? "3 3" : null, dy }),
        Plot.dot(chosen, { y: "y", x: "x", r: "r", symbol, stroke: ink, strokeWidth: doubt ? 1.75 : 2, strokeDasharray: doubt ? "1.5 2" : null, fill: filled ? ink : "var(--paper)", dy, ariaLabel: "title" }),
        Plot.text(few, { y: "y", x: (point) => point.high ?? point.x, text: (point) => `n = ${point.n}`, textAnchor: "start", dx: 6, dy, fill: "var(--soft)", fontSize: 11 }),
      ];
    });
  }

  function draw() {
    const [rows, chart] = latest;
    const figure = document.getElementById("dots");
    width = figure.clientWidth;
    const published = points(rows, "published");
    const measured = points(rows, "measured");
    const all = [...published, ...measured];
    figure.hidden = !all.length;
    if (!all.length) return;
    const narrow = width < 640;
    const marginLeft = narrow ? 12 : Math.min(320, width * 0.32);
    // A letter is about 6.5 pixels wide; the caption under the plot has the axis in full.
    const label = chart.axis.length * 6.5 < width - marginLeft ? chart.axis : chart.unit;
    const room = narrow ? width - marginLeft - 16 : marginLeft - 12;
    const labels = new Map(rows.map((row) => [row.place, fitting(row.label, room)]));
    const reached = Math.ceil(Math.max(...all.map((point) => point.high ?? point.x), 1) / 10) * 10;
    const most = chart.unit === "percent" ? Math.min(100, reached) : reached;
    const lane = narrow ? 52 : 34;
    const shift = narrow ? 11 : 0;
    const plot = Plot.plot({
      width,
      height: rows.length * lane + 48,
      marginTop: 8,
      marginBottom: 40,
      marginLeft,
      marginRight: all.some((point) => point.few) ? 52 : 24,
      style: { background: "transparent", color: "var(--ink)", fontFamily: "inherit", fontSize: "13px", overflow: "visible" },
      x: { domain: [0, most], label, labelAnchor: "center", labelArrow: "none", ticks: narrow ? 5 : 10, tickSize: 0 },
      r: { type: "identity" },
      y: { type: "point", domain: rows.map((row) => row.place), label: null, tickSize: 0, tickFormat: (place) => labels.get(place), axis: narrow ? null : "left", padding: 0.5 },
      marks: [
        Plot.gridX({ stroke: "var(--line)", strokeOpacity: 1, ticks: narrow ? 5 : 10 }),
        narrow ? Plot.text(rows, { y: "place", x: 0, text: (row) => labels.get(row.place), textAnchor: "start", dy: -13, fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 4 }) : null,
        side(published, shift, -5, "var(--published)", "diamond", false),
        side(measured, shift, 5, "var(--accent)", "circle", true),
        Plot.tip(all, Plot.pointer({ x: "x", y: "y", title: "title", fill: "var(--raised)", stroke: "var(--line)" })),
      ],
    });
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", `Dot plot of ${chart.axis}: ${page.count(published.length, "published number")}, ${measured.length} measured. The table below has every figure.`);
    const key = (name, text) => make("span", { className: `key ${name}` }, text);
    page.fill(figure, plot, make("figcaption", { id: "dots-caption" },
      label === chart.axis ? null : make("span", {}, `${chart.axis}.`), published.length ? key("published", "published") : null,
      published.some((point) => point.doubt) ? key("doubt", "published, contradicted") : null, measured.length ? key("measured", "measured") : null,
      make("span", {}, `Lines are 95 % intervals${all.some((point) => point.n < 200) ? "; the fewer items, the smaller the mark" : ""}.`)));
  }

  new ResizeObserver(() => {
    if (latest && Math.abs(document.getElementById("dots").clientWidth - width) > 2) requestAnimationFrame(draw);
  }).observe(document.getElementById("dots"));

  return function (rows, chart) {
    latest = [rows, chart];
    document.getElementById("dots").hidden = false;
    draw();
  };
})();
