// Every score in one long table: six columns to filter by, all of them to sort by, any row as the baseline.
unpack("scores-data").then((store) => {
  const table = $("#every");
  if (!store || !table) return;
  const PAGE = 50;
  const FACETS = ["model", "method", "variant", "dimension", "benchmark", "type"];
  const select = Object.fromEntries(FACETS.map((name) => [name, $(`#every-${name}`)]));
  const baseline = $("#every-baseline");
  const entries = store.rows.flatMap((row, place) => store.measures.flatMap((measure, at) => {
    const value = store.values[place][at];
    return value ? [{ ...row, ...measure, place, at, value }] : [];
  }));
  FACETS.forEach((name) => {
    option(select[name], "", "All");
    unique(entries.map((entry) => entry[name])).forEach((value) => option(select[name], `=${value}`, value));
    if (entries.some((entry) => !entry[name])) option(select[name], "=", "none");
  });
  store.rows.forEach((row, place) => option(baseline, String(place), row.label));
  baseline.value = String(Math.max(0, store.rows.findIndex((row) => row.state === "baseline")));
  let sorting = null;
  let page = 0;

  const delta = (entry) => {
    const found = test(entry);
    if (found) return found[3];
    const other = store.values[Number(baseline.value)][entry.at];
    return entry.place === Number(baseline.value) || !other || other[0] === null || entry.value[0] === null ? null : entry.value[0] - other[0];
  };
  const test = (entry) => store.tests[Number(baseline.value)][entry.place][entry.at];
  const read = {
    metric: (entry) => entry.metric,
    n: (entry) => entry.n,
    score: (entry) => entry.value[0],
    seeds: (entry) => entry.value[3],
    difference: delta,
    p: (entry) => (test(entry) || [null])[0],
    ...Object.fromEntries(FACETS.map((name) => [name, (entry) => entry[name]])),
  };
  const compare = (one, other) => {
    if (one.ranked !== other.ranked) return Number(other.ranked) - Number(one.ranked);
    const [a, b] = [read[sorting.by](one), read[sorting.by](other)];
    if (a === null || b === null) return Number(a === null) - Number(b === null);
    return sorting.sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  };
  const line = (entry) => {
    const row = make("tr", `line${entry.ranked ? "" : " unranked"}`);
    FACETS.forEach((name) => {
      const cell = make("td", "word");
      const text = make("bdi", "", entry[name]);
      cell.append(text);
      const more = entry.label === entry.method || entry.label === `${entry.method}:${entry.variant}` ? [] : [entry.label];
      if (entry.state) more.push(entry.state);
      if (name === "method" && more.length) cell.append(make("span", "state", more.join(" · ")));
      row.append(cell);
    });
    row.append(make("td", "word", entry.metric), make("td", "", entry.n === null ? "–" : entry.n.toLocaleString("en")));
    const [value, low, high, spread, , marks] = entry.value;
    const score = make("td", "");
    score.append(make("span", "value", fixed(value)));
    score.append(make("span", "under", low === null ? "" : `${fixed(low, 1)}–${fixed(high, 1)}`));
    if (marks) score.append(make("span", "state", marks));
    const gap = delta(entry);
    const found = test(entry);
    const difference = make("td", gap === null || !found ? "" : tone(gap, found[0]));
    difference.append(make("span", "value", gap === null ? "–" : signed(gap)));
    difference.append(make("span", "under", gap === null || !found || found[1] === null ? "" : `${signed(found[1])} to ${signed(found[2])}`));
    row.append(score, make("td", "", spread === null ? "–" : `± ${fixed(spread)}`), difference, make("td", "", gap === null ? "–" : probability(found && found[0])));
    return row;
  };
  const draw = () => {
    const kept = entries.filter((entry) => FACETS.every((name) => !select[name].value || `=${entry[name]}` === select[name].value));
    if (sorting) kept.sort(compare);
    const pages = Math.max(1, Math.ceil(kept.length / PAGE));
    page = Math.min(page, pages - 1);
    table.tBodies[0].replaceChildren(...kept.slice(page * PAGE, (page + 1) * PAGE).map(line));
    $("#every-where").textContent = `Page ${page + 1} of ${pages} · ${kept.length.toLocaleString("en")} scores`;
    $("#every-back").disabled = page === 0;
    $("#every-next").disabled = page >= pages - 1;
  };
  const again = () => { page = 0; draw(); };
  [...FACETS.map((name) => select[name]), baseline].forEach((one) => one.addEventListener("change", again));
  all(".sort", table).forEach((button) => button.addEventListener("click", () => {
    const head = button.closest("th");
    const before = head.getAttribute("aria-sort");
    const order = turned(before, FACETS.includes(button.dataset.by) || button.dataset.by === "metric");
    all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
    if (order) head.setAttribute("aria-sort", order);
    sorting = order ? { by: button.dataset.by, sign: order === "ascending" ? 1 : -1 } : null;
    again();
  }));
  $("#every-back").addEventListener("click", () => { page -= 1; draw(); });
  $("#every-next").addEventListener("click", () => { page += 1; draw(); });
  draw();
});
