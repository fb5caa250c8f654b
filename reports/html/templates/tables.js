// The wide tables: rows expand, columns sort and filter, the baseline can be changed.
(() => {
  all(".open").forEach((button) => button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    document.getElementById(button.getAttribute("aria-controls")).hidden = open;
  }));

  // Sorting: a line and its details share one tbody. Unranked lines stay below, in their own order.
  const valueOf = (body, column) => {
    if (column === 0) return $("tr.line", body).dataset.label;
    const raw = $("tr.line", body).children[column].dataset.v;
    return raw ? Number(raw) : NaN;
  };
  all(".board .sort").forEach((button) => button.addEventListener("click", () => {
    const head = button.closest("th");
    const table = head.closest("table");
    if (!table.tBodies.length || table.id === "every") return;
    const column = [...head.parentElement.children].indexOf(head);
    const order = nextOrder(head.getAttribute("aria-sort"), column === 0);
    all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
    if (order) head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const isUnranked = (body) => Number($("tr.line", body).classList.contains("unranked"));
    const bodies = [...table.tBodies];
    bodies.sort((one, other) => {
      const original = Number(one.dataset.place) - Number(other.dataset.place);
      if (!order) return original;
      const [a, b] = [valueOf(one, column), valueOf(other, column)];
      if (typeof a === "string") return sign * a.localeCompare(b);
      if (isUnranked(one) !== isUnranked(other)) return isUnranked(one) - isUnranked(other);
      if (isUnranked(one)) return original;
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (a - b);
    });
    bodies.forEach((body) => table.append(body));
  }));

  // What is shown below each number: interval, difference or spread over seeds.
  all("[data-show]").forEach((button) => button.addEventListener("click", () => {
    press(button);
    button.closest("section").dataset.view = button.dataset.show;
  }));

  // Filters: rows by name, model, method and variant; columns by their group.
  const filterRows = (section) => {
    const words = $(".find", section).value.trim().toLowerCase();
    const facets = all(".facet", section);
    all("#pairs-scroll tbody tr", section).forEach((line) => { line.hidden = !line.textContent.toLowerCase().includes(words); });
    all("tbody[data-place]", section).forEach((body) => {
      const line = $("tr.line", body);
      body.hidden = !line.dataset.label.toLowerCase().includes(words) ||
        facets.some((facet) => facet.value && line.dataset[facet.dataset.facet] !== facet.value.slice(1));
    });
  };
  all(".find").forEach((input) => input.addEventListener("input", () => filterRows(input.closest("section"))));
  all(".facet").forEach((select) => select.addEventListener("change", () => filterRows(select.closest("section"))));
  all(".columns").forEach((select) => select.addEventListener("change", () => {
    const section = select.closest("section");
    all("[data-g]", section).forEach((cell) => { cell.classList.toggle("hidden", Boolean(select.value) && cell.dataset.g !== select.value); });
  }));

  // Another baseline: its differences, p values and shades are stored in the page.
  unpack("scores-data").then((data) => {
    if (!data) return;
    const rows = new Map(data.rows.map((row, index) => [row.key, index]));
    const measures = new Map(data.measures.map((measure, index) => [measure.key, index]));
    all(".baseline").forEach((select) => {
      select.addEventListener("change", () => {
        const section = select.closest("section");
        const base = rows.get(select.value);
        all("tr.line", section).forEach((line) => {
          const row = rows.get(line.dataset.key);
          all("td[data-m]", line).forEach((cell) => {
            const measure = measures.get(cell.dataset.m);
            const [own, baseline] = [data.values[row][measure], data.values[base][measure]];
            const test = data.tests[base][row][measure];
            const delta = test ? test[3] : own && baseline && own[0] !== null && baseline[0] !== null && row !== base ? own[0] - baseline[0] : null;
            const p = test ? test[0] : null;
            $(".delta", cell).textContent = delta === null ? "" : formatSigned(delta);
            $(".star", cell).textContent = p !== null && p < 0.05 ? "*" : "";
            cell.className = cell.className.replace(/ ?(gain|loss)\d/g, "") + (delta === null ? "" : ` ${shade(delta, p)}`);
          });
        });
        all(".against", section).forEach((name) => { name.textContent = data.rows[base].label; });
        section.dataset.view = "difference";
        press($("[data-show=difference]", section));
      });
      select.disabled = false;
    });
  });
})();
