"use strict";
// The dot plot over the table, drawn with Observable Plot: published and measured, each with its interval.

page.dots = (function () {
  const { make, one } = page;
  let latest = null;
  let width = 0;

  function title(row, side) {
    const found = row[side];
    return `${row.label}\n${side} ${one(found.value)}${found.low === null ? ", no interval" : `, 95 % interval ${page.interval(found)}`}, n = ${found.n ?? "unknown"}${
      side === "measured" && row.verdict.p !== undefined ? `\n${row.verdict.name}` : ""}`;
  }

  function points(rows, side) {
    return rows.filter((row) => row[side]).map((row) => ({
      y: row.place, x: row[side].value, low: row[side].low, high: row[side].high, title: title(row, side),
      doubt: side === "published" && row.published.contradictions.length > 0,
    }));
  }

  function side(data, shift, ink, symbol, filled) {
    const whole = data.filter((point) => point.low !== null);
    const rule = (chosen, dash) => Plot.ruleY(chosen, { y: "y", x1: "low", x2: "high", stroke: ink, strokeWidth: 2, strokeDasharray: dash, dy: shift });
    return [
      rule(whole.filter((point) => !point.doubt), null),
      rule(whole.filter((point) => point.doubt), "3 3"),
      Plot.dot(data, { y: "y", x: "x", r: 4.5, symbol, stroke: ink, strokeWidth: 2, fill: filled ? ink : "var(--paper)", dy: shift, ariaLabel: "title" }),
    ];
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
    const labels = new Map(rows.map((row) => [row.place, row.label]));
    const most = Math.min(100, Math.ceil(Math.max(...all.map((point) => point.high ?? point.x)) / 10) * 10);
    const lane = narrow ? 52 : 34;
    const shift = narrow ? 11 : 0;
    const plot = Plot.plot({
      width,
      height: rows.length * lane + 48,
      marginTop: 8,
      marginBottom: 40,
      marginLeft,
      marginRight: 16,
      style: { background: "transparent", color: "var(--ink)", fontFamily: "inherit", fontSize: "13px", overflow: "visible" },
      x: { domain: [0, most], label, labelAnchor: "center", labelArrow: "none", ticks: narrow ? 5 : 10, tickSize: 0 },
      y: { type: "point", domain: rows.map((row) => row.place), label: null, tickSize: 0, tickFormat: (place) => labels.get(place), axis: narrow ? null : "left", padding: 0.5 },
      marks: [
        Plot.gridX({ stroke: "var(--line)", strokeOpacity: 1, ticks: narrow ? 5 : 10 }),
        narrow ? Plot.text(rows, { y: "place", x: 0, text: "label", textAnchor: "start", dy: -13, fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 4 }) : null,
        side(published, measured.length ? shift - 5 : shift, "var(--published)", "diamond", false),
        side(measured, shift + 5, "var(--accent)", "circle", true),
        Plot.tip(all, Plot.pointer({ x: "x", y: "y", title: "title", fill: "var(--raised)", stroke: "var(--line)" })),
      ],
    });
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", `Dot plot of ${chart.axis}: ${page.count(published.length, "published number")}, ${measured.length} measured. The table below has every figure.`);
    const key = (name, text) => make("span", { className: `key ${name}` }, text);
    page.fill(figure, plot, make("figcaption", { id: "dots-caption" },
      make("span", {}, `${chart.axis}.`), published.length ? key("published", "published") : null,
      published.some((point) => point.doubt) ? key("doubt", "published, contradicted") : null, measured.length ? key("measured", "measured") : null,
      make("span", {}, "Lines are 95 % intervals.")));
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
