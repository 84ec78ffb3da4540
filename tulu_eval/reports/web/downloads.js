"use strict";
// Downloads that the page makes of its own data: CSV and JSON. Nothing is asked for; the file is in memory.

page.csv = (function () {
  const NUMBER = /^[+-]?\d[\d.,]*%?$|^-$/;

  /** A cell that no spreadsheet takes for a formula, as `csv_cell` of tulu_eval/escaping.py makes it. */
  function cell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    const text = String(value);
    const safe = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text) && !NUMBER.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  return function (records) {
    const names = [...new Set(records.flatMap(Object.keys))];
    return [names, ...records.map((record) => names.map((name) => record[name]))].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  };
})();

/** Two buttons that save records, which `make` gives (or promises) when one is pressed. */
page.downloads = function (name, make) {
  const file = name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 80);
  async function save(suffix, type, write) {
    const link = page.make("a", { href: URL.createObjectURL(new Blob([write(await make())], { type })), download: `${file}.${suffix}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
  const button = (label, spoken, action) => page.make("button", { type: "button", className: "quiet", "aria-label": spoken, onclick: action }, label);
  return [
    button("CSV", `Download these ${name} as CSV`, () => save("csv", "text/csv;charset=utf-8", page.csv)),
    button("JSON", `Download these ${name} as JSON`, () => save("json", "application/json", (records) => JSON.stringify(records, null, 1))),
  ];
};
