"use strict";
const $ = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};
const formatSigned = (value) => (value < -0.004 ? "−" : value > 0.004 ? "+" : "") + Math.abs(value).toFixed(2);
const formatNumber = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const formatP = (p) => (p === null || p === undefined ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));
const unique = (values) => [...new Set(values)].filter(Boolean);
const addOption = (select, value, text) => {
  const item = make("option", "", text);
  item.value = value;
  select.append(item);
};
const press = (pressed) => all("button", pressed.parentElement).forEach((button) => button.setAttribute("aria-pressed", String(button === pressed)));

// The next sort order of a column: text starts ascending, numbers start descending; the third click resets.
const nextOrder = (current, isText) => {
  const [first, second] = isText ? ["ascending", "descending"] : ["descending", "ascending"];
  return current === first ? second : current === second ? null : first;
};

// The shade of a significant difference, in three sizes.
const shade = (delta, p) => {
  if (p === null || p === undefined || p >= 0.05) return "";
  const size = 1 + [5, 15].filter((limit) => Math.abs(delta) >= limit).length;
  return (delta > 0 ? "gain" : "loss") + size;
};

// Data are embedded as base64 of gzipped JSON.
const unpack = async (id) => {
  const element = document.getElementById(id);
  if (!element) return null;
  const bytes = Uint8Array.from(atob(element.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

// Theme: the system's unless the reader chooses.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  $("#theme").addEventListener("click", () => {
    const current = document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = current === "dark" ? "light" : "dark";
  });
})();
