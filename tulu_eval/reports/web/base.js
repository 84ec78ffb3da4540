"use strict";
// What the other scripts share. Every text that comes from a run goes through a text node: nothing here ever parses markup.

const page = { data: JSON.parse(document.getElementById("data").textContent) };

/** Makes an element. Properties that start with "on" are listeners; children are elements, texts, or nothing. */
page.make = function (tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && !name.startsWith("aria") && name !== "list") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
};

/** Puts children in the place of what a node has. */
page.fill = function (id, ...children) {
  const node = typeof id === "string" ? document.getElementById(id) : id;
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
};

page.one = (value) => (value === null || value === undefined ? "" : value.toFixed(1));
page.count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
page.interval = (row) => (row.low === null ? "no interval" : `${page.one(row.low)} to ${page.one(row.high)}`);

let fields = 0;

/** A control under its label. */
page.field = function (label, control, className) {
  control.id ||= `field-${(fields += 1)}`;
  return page.make("div", { className }, page.make("label", { htmlFor: control.id }, label), control);
};

/** A labelled select; options are [value, label]. */
page.select = function (label, options, value, change, more) {
  const select = page.make("select", { onchange: (event) => change(event.target.value), ...more });
  for (const [key, text] of options) select.append(page.make("option", { value: key, selected: key === value }, text));
  return page.field(label, select, "field");
};

/** A labelled search field, which calls back once typing pauses. */
page.search = function (label, placeholder, change, wait) {
  let timer;
  const input = page.make("input", { type: "search", placeholder, autocomplete: "off", spellcheck: false });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => change(input.value.trim().toLowerCase()), wait);
  });
  return page.field(label, input, "field grow");
};

/** A signature, with places where its line may break. */
page.signature = function (text) {
  const parts = text.split("|").flatMap((part, place) => (place ? ["|", document.createElement("wbr"), part] : [part]));
  return page.make("code", { className: "signature" }, parts);
};

page.signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;

/** Controls that a narrow screen folds away, and a wide one always shows. */
page.filters = function (...controls) {
  const wide = matchMedia("(min-width: 48.01rem)");
  const box = page.make("details", { className: "filters", open: wide.matches }, page.make("summary", {}, "Filters and order"), page.make("div", { className: "controls" }, controls));
  wide.addEventListener("change", () => { box.open = wide.matches; });
  return box;
};

page.pill = (kind, text) => page.make("span", { className: `pill ${kind}` }, text);

/** The whole document is there: parts that are opened on demand stand behind the scripts. */
page.loaded = new Promise((resolve) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve, { once: true });
  else resolve();
});

const opened = new Map();

/** Opens a compressed part of this file: base64 of deflated JSON. */
page.open = function (name) {
  if (!opened.has(name)) {
    const part = inflate(name);
    part.catch(() => opened.delete(name));
    opened.set(name, part);
  }
  return opened.get(name);
};

async function inflate(name) {
  await page.loaded;
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser cannot open compressed parts; Chrome 80, Firefox 113, Safari 16.4 and later can");
  }
  const packed = Uint8Array.from(atob(document.getElementById(name).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}
