"use strict";
const $ = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};
const signed = (value) => (value < -0.004 ? "−" : value > 0.004 ? "+" : "") + Math.abs(value).toFixed(2);
const fixed = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const probability = (p) => (p === null || p === undefined ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));
const unique = (values) => [...new Set(values)].filter(Boolean);
const option = (select, value, text) => {
  const item = make("option", "", text);
  item.value = value;
  select.append(item);
};
const press = (button) => all("button", button.parentElement).forEach((one) => one.setAttribute("aria-pressed", String(one === button)));

// The next order of a column: words begin with A, numbers with the highest; the third click goes back.
const turned = (before, words) => {
  const [first, second] = words ? ["ascending", "descending"] : ["descending", "ascending"];
  return before === first ? second : before === second ? null : first;
};

// A shade for a difference that is no noise: how far it goes, in three steps.
const tone = (delta, p) => {
  if (p === null || p === undefined || p >= 0.05) return "";
  const size = 1 + [5, 15].filter((limit) => Math.abs(delta) >= limit).length;
  return (delta > 0 ? "gain" : "loss") + size;
};

// Data lie compressed in the page; the browser itself unpacks them.
const unpack = async (id) => {
  const place = document.getElementById(id);
  if (!place) return null;
  const bytes = Uint8Array.from(atob(place.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

// Theme: the system's unless the reader chooses.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  $("#theme").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  });
})();
