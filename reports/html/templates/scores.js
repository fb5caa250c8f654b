// All scores in one long table: filtered by six columns, sorted by any, compared with any row.
unpack("scores-data").then((data) => {
  const table = $("#every");
  if (!data || !table) return;
  const PAGE_SIZE = 50;
  const FACETS = ["model", "method", "variant", "dimension", "benchmark", "type"];
  const filters = Object.fromEntries(FACETS.map((name) => [name, $(`#every-${name}`)]));
  const baseline = $("#every-baseline");
  const entries = data.rows.flatMap((row, rowIndex) => data.measures.flatMap((measure, measureIndex) => {
    const value = data.values[rowIndex][measureIndex];
    return value ? [{ ...row, ...measure, rowIndex, measureIndex, value }] : [];
  }));
  FACETS.forEach((name) => {
    addOption(filters[name], "", "All");
    unique(entries.map((entry) => entry[name])).forEach((value) => addOption(filters[name], `=${value}`, value));
    if (entries.some((entry) => !entry[name])) addOption(filters[name], "=", "none");
  });
  data.rows.forEach((row, index) => addOption(baseline, String(index), row.label));
  baseline.value = String(Math.max(0, data.rows.findIndex((row) => row.state === "baseline")));
  let sorting = null;
  let page = 0;

  const testOf = (entry) => data.tests[Number(baseline.value)][entry.rowIndex][entry.measureIndex];
  const deltaOf = (entry) => {
    const test = testOf(entry);
    if (test) return test[3];
    const other = data.values[Number(baseline.value)][entry.measureIndex];
    return entry.rowIndex === Number(baseline.value) || !other || other[0] === null || entry.value[0] === null ? null : entry.value[0] - other[0];
  };
  const columns = {
    metric: (entry) => entry.metric,
    n: (entry) => entry.n,
    score: (entry) => entry.value[0],
    seeds: (entry) => entry.value[3],
    difference: deltaOf,
    p: (entry) => (testOf(entry) || [null])[0],
    ...Object.fromEntries(FACETS.map((name) => [name, (entry) => entry[name]])),
  };
  const compare = (one, other) => {
    if (one.ranked !== other.ranked) return Number(other.ranked) - Number(one.ranked);
    const [a, b] = [columns[sorting.by](one), columns[sorting.by](other)];
    if (a === null || b === null) return Number(a === null) - Number(b === null);
    return sorting.sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  };
  const makeLine = (entry) => {
    const line = make("tr", `line${entry.ranked ? "" : " unranked"}`);
    FACETS.forEach((name) => {
      const cell = make("td", "word");
      cell.append(make("bdi", "", entry[name]));
      const remarks = entry.label === entry.method || entry.label === `${entry.method}:${entry.variant}` ? [] : [entry.label];
      if (entry.state) remarks.push(entry.state);
      if (name === "method" && remarks.length) cell.append(make("span", "state", remarks.join(" · ")));
      line.append(cell);
    });
    line.append(make("td", "word", entry.metric), make("td", "", entry.n === null ? "–" : entry.n.toLocaleString("en")));
    const [value, low, high, seedSd, , marks] = entry.value;
    const score = make("td", "");
    score.append(make("span", "value", formatNumber(value)));
    score.append(make("span", "under", low === null ? "" : `${formatNumber(low, 1)}–${formatNumber(high, 1)}`));
    if (marks) score.append(make("span", "state", marks));
    const [unread, truncated, lenient] = entry.value.slice(6);
    if (unread || truncated) score.append(make("span", "state", `${formatNumber(unread, 1)} % unread, ${formatNumber(truncated, 1)} % cut`));
    if (lenient !== null && lenient !== value) score.append(make("span", "state", `${formatNumber(lenient)} read leniently`));
    const delta = deltaOf(entry);
    const test = testOf(entry);
    const difference = make("td", delta === null || !test ? "" : shade(delta, test[0]));
    difference.append(make("span", "value", delta === null ? "–" : formatSigned(delta)));
    difference.append(make("span", "under", delta === null || !test || test[1] === null ? "" : `${formatSigned(test[1])} to ${formatSigned(test[2])}`));
    line.append(score, make("td", "", seedSd === null ? "–" : `± ${formatNumber(seedSd)}`), difference, make("td", "", delta === null ? "–" : formatP(test && test[0])));
    return line;
  };
  const draw = () => {
    const matching = entries.filter((entry) => FACETS.every((name) => !filters[name].value || `=${entry[name]}` === filters[name].value));
    if (sorting) matching.sort(compare);
    const pages = Math.max(1, Math.ceil(matching.length / PAGE_SIZE));
    page = Math.min(page, pages - 1);
    table.tBodies[0].replaceChildren(...matching.slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE).map(makeLine));
    $("#every-where").textContent = `Page ${page + 1} of ${pages} · ${matching.length.toLocaleString("en")} scores`;
    $("#every-back").disabled = page === 0;
    $("#every-next").disabled = page >= pages - 1;
  };
  const restart = () => { page = 0; draw(); };
  [...Object.values(filters), baseline].forEach((select) => select.addEventListener("change", restart));
  all(".sort", table).forEach((button) => button.addEventListener("click", () => {
    const head = button.closest("th");
    const order = nextOrder(head.getAttribute("aria-sort"), FACETS.includes(button.dataset.by) || button.dataset.by === "metric");
    all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
    if (order) head.setAttribute("aria-sort", order);
    sorting = order ? { by: button.dataset.by, sign: order === "ascending" ? 1 : -1 } : null;
    restart();
  }));
  $("#every-back").addEventListener("click", () => { page -= 1; draw(); });
  $("#every-next").addEventListener("click", () => { page += 1; draw(); });
  draw();
});
